#include "master/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "master/respawn.h"
#include "os/signals.h"
#include "os/title.h"

#define SLOW_NS (3 * NS_PER_S)

enum { N_STREAMS = 2, LOOK_MS = 200, PASS_BYTES = 16 * 1024 };

/* The child, as it is seen by who waits for it. */
struct errand {
	int (*fn)(void *arg, struct file_at *at);
	void *arg;
	bool is_trial; /* it says nothing, and needs nothing of ours */
	uint64_t most_ns;
	pid_t pid;
	int streams[N_STREAMS]; /* its standard output and error; -1 = it has ended */
	struct file_at *at;     /* shared with it */
	uint32_t turns;         /* as it was when we looked */
	uint64_t since_ns;      /* so long it is so */
	bool told;
};

/* --- the child --------------------------------------------------------------------------------------------------------------- */

static _Noreturn void child_main(const struct errand *errand, pid_t parent, const int ends[N_STREAMS])
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	for (int i = 0; i < N_STREAMS; i++)
		if (dup2(ends[i], STDOUT_FILENO + i) < 0)
			_exit(EXIT_FAILURE);
	if (!errand->is_trial)
		exit(errand->fn(errand->arg, errand->at));
	signals_for_child();
	title_set("aegis: reading settings");
	(void)syscall(SYS_close_range, (unsigned)STDERR_FILENO + 1, ~0U, 0); /* nobody should wait for our copies to be closed */
	_exit(errand->fn(errand->arg, errand->at));
}

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* 0 or a negative errno. */
static int begin(struct errand *errand)
{
	int ends[N_STREAMS] = { -1, -1 };
	pid_t parent = getpid();
	void *at = mmap(NULL, sizeof *errand->at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int error = at == MAP_FAILED ? -errno : 0;
	for (int i = 0; !error && i < N_STREAMS; i++) {
		int pipe_ends[2];
		error = pipe2(pipe_ends, O_CLOEXEC) < 0 ? -errno : 0;
		errand->streams[i] = error ? -1 : pipe_ends[0];
		ends[i] = error ? -1 : pipe_ends[1];
	}
	errand->at = at;
	errand->since_ns = clock_now_ns();
	(void)fflush(NULL); /* what waits to be written is ours alone */
	errand->pid = error ? -1 : fork();
	if (errand->pid == 0)
		child_main(errand, parent, ends);
	if (!error && errand->pid < 0)
		error = -errno;
	for (int i = 0; i < N_STREAMS; i++)
		close_if_open(&ends[i]);
	return error;
}

static void end(struct errand *errand, struct hung *hung)
{
	if (errand->pid > 0)
		hung_end(hung, errand->pid, clock_now_ns());
	for (int i = 0; i < N_STREAMS; i++)
		close_if_open(&errand->streams[i]);
	if (errand->at != MAP_FAILED)
		(void)munmap(errand->at, sizeof *errand->at);
}

/* --- who waits for it -------------------------------------------------------------------------------------------------------- */

static void pass_on(struct errand *errand, int stream)
{
	char bytes[PASS_BYTES];
	ssize_t count = read(errand->streams[stream], bytes, sizeof bytes);
	if (count < 0 && errno == EINTR)
		return;
	if (count <= 0)
		close_if_open(&errand->streams[stream]);
	for (ssize_t done = 0; done < count;) {
		ssize_t written = write(STDOUT_FILENO + stream, bytes + done, (size_t)(count - done));
		if (written < 0 && errno != EINTR)
			return; /* nobody wants it */
		done += written > 0 ? written : 0;
	}
}

static void copy_what(const struct errand *errand, char out[static FILE_AT_SIZE])
{
	memcpy(out, errand->at->what, FILE_AT_SIZE);
	out[FILE_AT_SIZE - 1] = '\0';
}

/* Look whether it goes on. 0, or -ETIMEDOUT with an error added. */
static int look(struct errand *errand, struct config_errors *errors)
{
	char what[FILE_AT_SIZE];
	uint32_t turns = atomic_load(&errand->at->turns);
	uint64_t now_ns = clock_now_ns();
	if (turns != errand->turns || turns % 2 == 0) {
		errand->turns = turns;
		errand->since_ns = now_ns;
		errand->told = false;
		return 0;
	}
	copy_what(errand, what);
	if (!errand->told && now_ns - errand->since_ns >= SLOW_NS) {
		errand->told = true;
		log_warn("still waiting for %s: it does not answer; given up after %llu s", what,
		        (unsigned long long)(errand->most_ns / NS_PER_S));
	}
	if (now_ns - errand->since_ns < errand->most_ns)
		return 0;
	config_errors_add(errors, what, 0, NULL,
	        "did not answer within %llu s: its disk, or the server that it comes from, hangs; see to that (mount, dmesg), or name "
	        "another file",
	        (unsigned long long)(errand->most_ns / NS_PER_S));
	return -ETIMEDOUT;
}

/* Until it has ended, and all that it wrote is passed on. A grandchild that is left behind may hold the streams open. */
static int await(struct errand *errand, struct config_errors *errors, int *status)
{
	for (bool ended = false; !ended;) {
		struct pollfd streams[N_STREAMS] = { { .fd = errand->streams[0], .events = POLLIN },
			{ .fd = errand->streams[1], .events = POLLIN } };
		bool open = errand->streams[0] >= 0 || errand->streams[1] >= 0;
		int ready = poll(streams, N_STREAMS, open ? LOOK_MS : 1);
		for (int i = 0; ready > 0 && i < N_STREAMS; i++)
			if (streams[i].revents)
				pass_on(errand, i);
		if (ready <= 0)
			ended = waitpid(errand->pid, status, WNOHANG) != 0;
		int error = ended ? 0 : look(errand, errors);
		if (error)
			return error;
	}
	errand->pid = 0;
	return 0;
}

int patience_do(int (*fn)(void *arg, struct file_at *at), void *arg, struct config_errors *errors)
{
	struct errand errand = { .fn = fn, .arg = arg, .most_ns = PATIENCE_NS, .streams = { -1, -1 } };
	struct hung hung = { 0 };
	char text[RESPAWN_END_SIZE];
	int status = 0;
	(void)signal(SIGCHLD, SIG_DFL); /* who started us may have had it ignored, and then nobody tells how a child ended */
	if (begin(&errand)) {
		end(&errand, &hung);
		return fn(arg, NULL);
	}
	int error = await(&errand, errors, &status);
	if (!error && !WIFEXITED(status)) {
		config_errors_add(errors, "aegis", 0, NULL, "the process that looks at all this %s", respawn_end_text(status, text));
		error = -ECHILD;
	}
	end(&errand, &hung);
	hung_fini(&hung);
	return error ? error : WEXITSTATUS(status);
}

/* --- settings ---------------------------------------------------------------------------------------------------------------- */

static int read_settings(void *arg, struct file_at *at)
{
	struct config_source source = *(const struct config_source *)arg;
	struct config *config;
	struct config_errors errors = { 0 };
	source.at = at;
	if (config_load(&source, &config, &errors) == 0) /* whoever asked loads them for himself then */
		config_free(config);
	config_errors_clear(&errors);
	return EXIT_SUCCESS;
}

int patience_try(const struct config_source *source, uint64_t most_ns, struct hung *hung, struct config_errors *errors)
{
	struct config_source copy = *source;
	struct errand errand = { .fn = read_settings, .arg = &copy, .is_trial = true, .most_ns = most_ns, .streams = { -1, -1 } };
	int status;
	if (!source->file && source->n_overrides == 0)
		return 0;
	int error = begin(&errand) ? 0 : await(&errand, errors, &status);
	end(&errand, hung);
	return error;
}
