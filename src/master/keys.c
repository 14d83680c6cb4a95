#include "master/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "os/signals.h"
#include "os/title.h"

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

static _Noreturn void child_main(const struct config *config, const struct identity *identity, int vault, int fd)
{
	struct tls_files files = { 0 };
	struct vault_findings findings = { 0 };
	signals_for_child();
	log_set_process("certificates");
	title_set("aegis: reading certificates");
	int error = tls_files_read(config, &files);
	if (privileges_drop(identity))
		_exit(EXIT_FAILURE);
	if (!error)
		error = vault_build(config, &files, (int64_t)time(NULL), vault, &findings);
	answer(fd, error, &findings);
	tls_files_free(&files);
	_exit(EXIT_SUCCESS);
}

/* --- in the master --------------------------------------------------------------------------------------------------------- */

int keys_start(struct keys *out, const struct config *config, const struct identity *identity, void (*close_fds)(void *), void *arg)
{
	int ends[2], vault = vault_make_fd();
	if (vault < 0 && vault != -ENOSYS) /* without TLS the child says so */
		return vault;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		int error = -errno;
		if (vault >= 0)
			close(vault);
		return error;
	}
	pid_t pid = fork();
	if (pid < 0) {
		int error = errno;
		close(ends[0]);
		close(ends[1]);
		if (vault >= 0)
			close(vault);
		return -error;
	}
	if (pid == 0) {
		close(ends[0]);
		close_fds(arg);
		child_main(config, identity, vault, ends[1]);
	}
	close(ends[1]);
	(void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
	*out = (struct keys){ .pid = pid, .fd = ends[0], .vault = vault };
	return 0;
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

void keys_findings(const struct keys *keys, const struct config *config, struct vault_findings *out)
{
	struct head head = { .error = -EPIPE };
	*out = (struct vault_findings){ 0 };
	if (keys->answer_bytes >= sizeof head)
		memcpy(&head, keys->answer, sizeof head);
	if (head.error || !is_sound(keys, config, &head)) {
		config_errors_add(&out->errors, "certificates", 0, "tls", "the process that reads certificates %s; see the log, try again",
		        head.error == -EPIPE ? "ended early"
		        : head.error         ? strerror(-head.error)
		                             : "answered nonsense");
		return;
	}
	const char *at = keys->answer + sizeof head;
	take_lines(&out->errors, at, head.errors_bytes, head.n_errors);
	take_lines(&out->warnings, at + head.errors_bytes, head.warnings_bytes, head.n_warnings);
	out->facts = calloc(head.n_facts + 1, sizeof *out->facts);
	ensure(out->facts);
	out->n_facts = head.n_facts;
	memcpy(out->facts, at + head.errors_bytes + head.warnings_bytes, head.n_facts * sizeof *out->facts);
	memcpy(out->digest, head.digest, sizeof out->digest);
}

int keys_take_vault(struct keys *keys)
{
	int vault = keys->vault;
	keys->vault = -1;
	return vault;
}

void keys_end(struct keys *keys)
{
	if (keys->pid) {
		(void)kill(keys->pid, SIGKILL);
		while (waitpid(keys->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (keys->fd >= 0)
		close(keys->fd);
	if (keys->vault >= 0)
		close(keys->vault);
	free(keys->answer);
	*keys = KEYS_NONE;
}
