#include "master/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "master/respawn.h"
#include "os/path_watch.h"
#include "os/signals.h"
#include "os/title.h"

#define SLOW_NS (3 * NS_PER_S)

enum { ENDING_MS = 20 }; /* from the end of the pipe to that of the child */
enum { MOST_LINES_BYTES = 4 * 1024 * 1024, READ_BYTES = 64 * 1024 };

/* What the child says; behind it come the lines of errors, those of warnings, and the facts. */
struct head {
	int32_t error; /* 0 or a negative errno */
	uint32_t n_errors, n_warnings, n_facts;
	uint64_t errors_bytes, warnings_bytes;
	unsigned char digest[VAULT_DIGEST_BYTES];
};

/* --- in the child ---------------------------------------------------------------------------------------------------------- */

static void write_all(int fd, const void *bytes, size_t count)
{
	const char *at = bytes;
	while (count > 0) {
		ssize_t written = write(fd, at, count);
		if (written <= 0)
			_exit(EXIT_FAILURE); /* the master gave up on us */
		at += written;
		count -= (size_t)written;
	}
}

static void answer(int fd, int error, const struct vault_findings *findings)
{
	struct head head = { .error = error,
		.n_errors = (uint32_t)findings->errors.count,
		.n_warnings = (uint32_t)findings->warnings.count,
		.n_facts = (uint32_t)findings->n_facts,
		.errors_bytes = findings->errors.length,
		.warnings_bytes = findings->warnings.length };
	memcpy(head.digest, findings->digest, sizeof head.digest);
	write_all(fd, &head, sizeof head);
	write_all(fd, findings->errors.lines, findings->errors.length);
	write_all(fd, findings->warnings.lines, findings->warnings.length);
	write_all(fd, findings->facts, findings->n_facts * sizeof *findings->facts);
}

/* Of a folder that is not there the file that is missing tells. */
static void watch_file(struct path_watch *watch, const struct config *config, const struct tls_file *file, struct config_errors *warnings)
{
	char setting[128];
	int line, error = path_watch_add(watch, file->path);
	if (!error)
		return;
	const char *place = tls_file_place(config, file, &line);
	config_errors_add(warnings, place ? place : "command line", line, tls_file_setting(file, setting, sizeof setting),
	        "cannot watch the folder of %s: %s; what changes there is taken over at a reload", file->path, strerror(-error));
}

static int read_files(
        const struct config *config, int watch_fd, _Atomic uint32_t *at, struct tls_files *files, struct config_errors *warnings)
{
	int error = tls_files_list(config, files);
	struct path_watch *watch = error || watch_fd < 0 ? NULL : path_watch_begin(watch_fd);
	for (size_t i = 0; !error && i < files->n; i++) {
		atomic_store(at, (uint32_t)i + 1);
		if (watch)
			watch_file(watch, config, &files->files[i], warnings);
		tls_file_read(&files->files[i]);
	}
	if (watch)
		path_watch_end(watch);
	atomic_store(at, 0);
	return error;
}

static _Noreturn void child_main(const struct config *config, const struct identity *identity, const struct keys *keys, int watch, int fd)
{
	struct tls_files files = { 0 };
	struct vault_findings findings = { 0 };
	signals_for_child();
	log_set_process("certificates");
	title_set("aegis: reading certificates");
	int error = read_files(config, watch, keys->at, &files, &findings.warnings);
	if (privileges_drop(identity))
		_exit(EXIT_FAILURE);
	if (!error)
		error = vault_build(config, &files, (int64_t)time(NULL), keys->vault, &findings);
	if (!error && findings.errors.count == 0 && keys->excerpt >= 0)
		error = vault_excerpt(config, keys->vault, keys->excerpt);
	answer(fd, error, &findings);
	tls_files_free(&files);
	_exit(EXIT_SUCCESS);
}

/* --- in the master --------------------------------------------------------------------------------------------------------- */

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void keys_release_in_child(const struct keys *keys)
{
	close_if_open(keys->fd);
	close_if_open(keys->vault);
	close_if_open(keys->excerpt);
	close_if_open(keys->watch);
}

static void close_all(struct keys *keys)
{
	keys_release_in_child(keys);
	if (keys->at)
		(void)munmap(keys->at, sizeof *keys->at);
	free(keys->answer);
	*keys = KEYS_NONE;
}

/* What the child writes into. 0 or a negative errno. */
static int make_files(struct keys *keys, const struct config *config)
{
	void *at = mmap(NULL, sizeof *keys->at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	keys->at = at;
	keys->vault = vault_make_fd();
	if (keys->vault == -ENOSYS) /* without TLS the child says so */
		return 0;
	if (keys->vault < 0)
		return keys->vault;
	if (!vault_has_excerpt(config))
		return 0;
	keys->excerpt = vault_make_fd();
	return keys->excerpt < 0 ? keys->excerpt : 0;
}

/* What is to hear of changes. That there is nothing is no reason to give the settings up. */
static void make_watch(struct keys *keys)
{
	keys->watch = path_watch_open();
	if (keys->watch < 0)
		log_warn("cannot watch the files of certificates: %s; what changes is taken over at a reload", strerror(-keys->watch));
}

static int fork_child(
        struct keys *keys, const struct config *config, const struct identity *identity, int watch, void (*close_fds)(void *), void *arg)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	keys->pid = fork();
	if (keys->pid == 0) {
		close(ends[0]);
		watch = fcntl(watch >= 0 ? watch : keys->watch, F_DUPFD_CLOEXEC, STDERR_FILENO + 1); /* the other is among the master's */
		close_fds(arg);
		child_main(config, identity, keys, watch, ends[1]);
	}
	int error = keys->pid < 0 ? -errno : 0;
	close(ends[1]);
	if (error) {
		keys->pid = 0;
		close(ends[0]);
		return error;
	}
	(void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
	keys->fd = ends[0];
	return 0;
}

int keys_start(struct keys *out, const struct config *config, const struct identity *identity, int watch, const struct hung *hung,
        void (*close_fds)(void *), void *arg)
{
	struct keys keys = KEYS_NONE;
	int error = hung_too_many(hung, clock_now_ns()) ? -EBUSY : make_files(&keys, config);
	if (!error && watch < 0 && config->tls.watch)
		make_watch(&keys);
	if (!error)
		error = fork_child(&keys, config, identity, watch, close_fds, arg);
	if (error) {
		close_all(&keys);
		return error;
	}
	keys.started_ns = clock_now_ns();
	*out = keys;
	return 0;
}

const char *keys_why_not(int error)
{
	return error == -EBUSY ? "several processes that read them hang: a disk, or a server of files, does not answer" : strerror(-error);
}

/* What the child is at. It has given up its rights in the end: what it says is input. */
static void describe(const struct keys *keys, const struct config *config, char *out, size_t size)
{
	struct tls_files files;
	char setting[128];
	uint32_t at = keys->at ? atomic_load(keys->at) : 0;
	(void)text_copy(out, size, "the process that checks certificates");
	if (at == 0 || tls_files_list(config, &files))
		return;
	if (at <= files.n)
		(void)snprintf(
		        out, size, "%s (%s)", files.files[at - 1].path, tls_file_setting(&files.files[at - 1], setting, sizeof setting));
	tls_files_free(&files);
}

void keys_tick(struct keys *keys, const struct config *config)
{
	char what[sizeof keys->late];
	if (keys->pid == 0 || keys->told || clock_now_ns() - keys->started_ns < SLOW_NS)
		return;
	keys->told = true;
	describe(keys, config, what, sizeof what);
	log_warn("still waiting for certificates: %s does not answer; given up after %llu s", what,
	        (unsigned long long)(KEYS_NS / NS_PER_S));
}

const char *keys_give_up(struct keys *keys, const struct config *config)
{
	char what[sizeof keys->late - 64];
	describe(keys, config, what, sizeof what);
	(void)snprintf(keys->late, sizeof keys->late, "%s did not answer within %llu s", what, (unsigned long long)(KEYS_NS / NS_PER_S));
	return keys->late;
}

int keys_read(struct keys *keys)
{
	for (;;) {
		if (keys->answer_bytes > MOST_LINES_BYTES)
			return -EMSGSIZE;
		if (keys->answer_size - keys->answer_bytes < READ_BYTES) {
			size_t size = keys->answer_size * 2 + READ_BYTES;
			char *bytes = realloc(keys->answer, size);
			if (!bytes)
				return -ENOMEM;
			keys->answer = bytes;
			keys->answer_size = size;
		}
		ssize_t count = read(keys->fd, keys->answer + keys->answer_bytes, READ_BYTES);
		if (count == 0)
			return 0;
		if (count < 0)
			return -errno;
		keys->answer_bytes += (size_t)count;
	}
}

/* Lines that somebody else wrote, one by one. */
static void take_lines(struct config_errors *out, const char *lines, size_t length, uint32_t count)
{
	if (count == 0 || length == 0 || lines[length - 1] != '\n')
		return;
	char *copy = strndup(lines, length);
	ensure(copy);
	out->lines = copy;
	out->length = strlen(copy);
	out->size = out->length + 1;
	out->count = count;
}

/* The child has given up its rights, and parsed: what it says is input. */
static bool is_sound(const struct keys *keys, const struct config *config, const struct head *head)
{
	uint64_t rest = keys->answer_bytes - sizeof *head;
	if (head->errors_bytes > rest || head->warnings_bytes > rest - head->errors_bytes ||
	        head->n_facts != (rest - head->errors_bytes - head->warnings_bytes) / sizeof(struct vault_fact))
		return false;
	const char *facts = keys->answer + sizeof *head + head->errors_bytes + head->warnings_bytes;
	for (uint32_t i = 0; i < head->n_facts; i++) {
		struct vault_fact fact;
		memcpy(&fact, facts + i * sizeof fact, sizeof fact);
		if (fact.listener >= config->n_listeners || fact.item >= config->listeners[fact.listener].tls.n_certificates ||
		        !memchr(fact.label, '\0', sizeof fact.label))
			return false;
	}
	return true;
}

/* How it ended, or was ended, by itself; whoever waits for it does so later. */
static const char *end_text(const struct keys *keys, char text[static RESPAWN_END_SIZE])
{
	siginfo_t end = { .si_pid = 0 };
	for (int i = 0; i < ENDING_MS; i++) {
		if (waitid(P_PID, (id_t)keys->pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0 || end.si_pid == keys->pid)
			break;
		(void)poll(NULL, 0, 1);
	}
	if (end.si_pid != keys->pid) {
		(void)text_copy(text, RESPAWN_END_SIZE, "ended early");
		return text;
	}
	int status = end.si_status; /* as waitpid() would have it */
	if (end.si_code == CLD_EXITED)
		status <<= 8;
	else if (end.si_code == CLD_DUMPED)
		status |= 0x80;
	return respawn_end_text(status, text);
}

bool keys_ended_early(const struct keys *keys)
{
	struct head head;
	if (keys->pid == 0 || keys->late[0])
		return false;
	if (keys->answer_bytes < sizeof head)
		return true;
	memcpy(&head, keys->answer, sizeof head);
	return keys->answer_bytes - sizeof head <
	       head.errors_bytes + head.warnings_bytes + (uint64_t)head.n_facts * sizeof(struct vault_fact);
}

static void say_why_not(const struct keys *keys, struct config_errors *errors)
{
	char text[RESPAWN_END_SIZE];
	if (keys->late[0])
		config_errors_add(errors, "certificates", 0, "tls", "%s", keys->late);
	else if (keys->pid == 0)
		config_errors_add(errors, "certificates", 0, "tls", "the process that reads certificates could not be started");
	else
		config_errors_add(errors, "certificates", 0, "tls", "the process that reads certificates %s before it was done",
		        end_text(keys, text));
}

bool keys_findings(const struct keys *keys, const struct config *config, struct vault_findings *out)
{
	struct head head;
	*out = (struct vault_findings){ 0 };
	if (keys->pid == 0 || keys->late[0] || keys_ended_early(keys)) {
		say_why_not(keys, &out->errors);
		return false;
	}
	memcpy(&head, keys->answer, sizeof head);
	if (head.error || !is_sound(keys, config, &head)) {
		config_errors_add(&out->errors, "certificates", 0, "tls", "the process that reads certificates %s%s",
		        head.error ? "gave up: " : "answered nonsense", head.error ? strerror(-head.error) : "");
		return false;
	}
	const char *at = keys->answer + sizeof head;
	take_lines(&out->errors, at, head.errors_bytes, head.n_errors);
	take_lines(&out->warnings, at + head.errors_bytes, head.warnings_bytes, head.n_warnings);
	out->facts = calloc(head.n_facts + 1, sizeof *out->facts);
	ensure(out->facts);
	out->n_facts = head.n_facts;
	memcpy(out->facts, at + head.errors_bytes + head.warnings_bytes, head.n_facts * sizeof *out->facts);
	memcpy(out->digest, head.digest, sizeof out->digest);
	return true;
}

int keys_take_vault(struct keys *keys)
{
	int vault = keys->vault;
	keys->vault = -1;
	return vault;
}

int keys_take_excerpt(struct keys *keys)
{
	int excerpt = keys->excerpt;
	keys->excerpt = -1;
	return excerpt;
}

int keys_take_watch(struct keys *keys)
{
	int watch = keys->watch;
	keys->watch = -1;
	return watch;
}

void keys_end(struct keys *keys, struct hung *hung)
{
	if (keys->pid)
		hung_end(hung, keys->pid, clock_now_ns());
	close_all(keys);
}
