#include "tools/screen.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/signals.h"

bool screen_possible(const char **why)
{
	const char *term = getenv("TERM");
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		*why = isatty(STDOUT_FILENO) ? "the input is none" : "the output is none";
	else if (term == NULL || term[0] == '\0')
		*why = "TERM is not set";
	else if (strcmp(term, "dumb") == 0)
		*why = "TERM is dumb";
	else
		return true;
	return false;
}

void screen_ask_size(struct screen *screen)
{
	struct winsize size;
	bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
	screen->rows = known ? size.ws_row : 24;
	screen->columns = known ? size.ws_col : 80;
}

/* no-color.org: any value but the empty one. */
static bool wants_colours(void)
{
	const char *no = getenv("NO_COLOR");
	return no == NULL || no[0] == '\0';
}

int screen_open(struct screen *screen)
{
	static const int list[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE, SIGTSTP, SIGWINCH, 0 };
	int fd = signals_open(list);
	if (fd < 0)
		return fd;
	*screen = (struct screen){ .signals_fd = fd, .has_colours = wants_colours() };
	/* Of the locale only which characters there are: numbers are written the same everywhere. */
	screen->is_utf8 = setlocale(LC_CTYPE, "") != NULL && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	screen->painter = screen_curses() != NULL ? screen_curses() : screen_plain();
	int rc = tcgetattr(STDIN_FILENO, &screen->before) < 0 ? -errno : 0;
	if (rc == 0)
		rc = screen->painter->open(screen);
	if (rc < 0)
		close(fd);
	return rc;
}

static void give_terminal_back(struct screen *screen)
{
	screen->painter->close(screen);
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &screen->before);
}

void screen_close(struct screen *screen)
{
	give_terminal_back(screen);
	close(screen->signals_fd);
}

static enum screen_event take_signal(struct screen *screen)
{
	int sender, number = signals_next(screen->signals_fd, &sender);
	switch (number) {
	case 0:
		return SCREEN_REDRAW;
	case SIGWINCH:
		screen->painter->measure(screen);
		return SCREEN_REDRAW;
	case SIGINT:
		return SCREEN_QUIT;
	case SIGTSTP:
		give_terminal_back(screen);
		raise(SIGSTOP);
		/* Here again: in the foreground, or the kernel would have stopped us at the first touch of the terminal. */
		if (tcgetattr(STDIN_FILENO, &screen->before) == 0 && screen->painter->open(screen) == 0)
			return SCREEN_REDRAW;
		number = SIGHUP;
		break;
	default:
		break;
	}
	screen->signal = number;
	return SCREEN_SIGNAL;
}

/* True when something came of it. */
static bool take_key(struct screen *screen, enum screen_event *event)
{
	int key = screen->painter->read_key(screen);
	if (key == 0)
		return false;
	screen->key = key;
	*event = key < 0 || key == 'D' - '@' ? SCREEN_QUIT : SCREEN_KEY;
	return true;
}

enum screen_event screen_wait(struct screen *screen, uint64_t deadline_ns)
{
	struct pollfd fds[] = { { .fd = screen->signals_fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
	enum screen_event event;
	/* Several keys come with one read. */
	if (take_key(screen, &event))
		return event;
	for (;;) {
		uint64_t now_ns = clock_now_ns();
		if (now_ns >= deadline_ns)
			return SCREEN_TIME;
		uint64_t left_ns = deadline_ns - now_ns;
		struct timespec left = { .tv_sec = (time_t)(left_ns / NS_PER_S), .tv_nsec = (long)(left_ns % NS_PER_S) };
		if (ppoll(fds, ARRAY_LEN(fds), &left, NULL) <= 0)
			continue;
		if (fds[0].revents != 0)
			return take_signal(screen);
		if (take_key(screen, &event))
			return event;
		if ((fds[1].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
			return SCREEN_QUIT;
	}
}

int screen_show(struct screen *screen, const struct canvas *canvas)
{
	return screen->painter->show(screen, canvas);
}

void screen_die(const struct screen *screen)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, screen->signal);
	signal(screen->signal, SIG_DFL);
	raise(screen->signal);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}
