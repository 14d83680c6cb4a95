#include "tools/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/signals.h"

static const char enter[] = "\033[?1049h\033[?25l\033[?7l\033[2J";
static const char leave[] = "\033[?7h\033[?25h\033[?1049l";

bool screen_possible(void)
{
	const char *term = getenv("TERM");
	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
}

static int write_all(const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t n = write(STDOUT_FILENO, bytes, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		size -= (size_t)n;
	}
	return 0;
}

static void measure(struct screen *screen)
{
	struct winsize size;
	bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
	screen->rows = known ? size.ws_row : 24;
	screen->columns = known ? size.ws_col : 80;
}

/* Write first, so that a terminal that cannot be written to is left as it is. */
static int take_terminal(struct screen *screen)
{
	if (tcgetattr(STDIN_FILENO, &screen->before) < 0)
		return -errno;
	int rc = write_all(enter, sizeof enter - 1);
	if (rc < 0)
		return rc;
	struct termios raw = screen->before;
	raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0) {
		rc = -errno;
		(void)write_all(leave, sizeof leave - 1);
		return rc;
	}
	measure(screen);
	return 0;
}

/* Where the terminal is gone there is nothing to give back. */
static void give_terminal_back(const struct screen *screen)
{
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &screen->before);
	(void)write_all(leave, sizeof leave - 1);
}

int screen_open(struct screen *screen)
{
	static const int list[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE, SIGTSTP, SIGWINCH, 0 };
	int fd = signals_open(list);
	if (fd < 0)
		return fd;
	*screen = (struct screen){ .signals_fd = fd };
	int rc = take_terminal(screen);
	if (rc < 0)
		close(fd);
	return rc;
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
		measure(screen);
		return SCREEN_REDRAW;
	case SIGINT:
		return SCREEN_QUIT;
	case SIGTSTP:
		give_terminal_back(screen);
		raise(SIGSTOP);
		/* Here again: in the foreground, or the kernel would have stopped us at the first touch of the terminal. */
		if (take_terminal(screen) == 0)
			return SCREEN_REDRAW;
		number = SIGHUP;
		break;
	default:
		break;
	}
	screen->signal = number;
	return SCREEN_SIGNAL;
}

static enum screen_event take_key(void)
{
	static const struct {
		const char *bytes;
		enum screen_event event;
	} keys[] = {
		{ "q", SCREEN_QUIT },
		{ "Q", SCREEN_QUIT },
		{ "\004", SCREEN_QUIT },
		{ "k", SCREEN_UP },
		{ "\033[A", SCREEN_UP },
		{ "\033OA", SCREEN_UP },
		{ "j", SCREEN_DOWN },
		{ "\033[B", SCREEN_DOWN },
		{ "\033OB", SCREEN_DOWN },
		{ "\033[5~", SCREEN_PAGE_UP },
		{ "b", SCREEN_PAGE_UP },
		{ "\033[6~", SCREEN_PAGE_DOWN },
		{ " ", SCREEN_PAGE_DOWN },
	};
	char bytes[64];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		return SCREEN_QUIT; /* the terminal is gone */
	for (size_t i = 0; n > 0 && i < ARRAY_LEN(keys); i++)
		if ((size_t)n >= strlen(keys[i].bytes) && memcmp(bytes, keys[i].bytes, strlen(keys[i].bytes)) == 0)
			return keys[i].event;
	return SCREEN_REDRAW;
}

enum screen_event screen_wait(struct screen *screen, uint64_t deadline_ns)
{
	struct pollfd fds[] = { { .fd = screen->signals_fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
	for (;;) {
		uint64_t now_ns = clock_now_ns();
		if (now_ns >= deadline_ns)
			return SCREEN_TIME;
		uint64_t left_ns = deadline_ns - now_ns;
		struct timespec left = { .tv_sec = (time_t)(left_ns / NS_PER_S), .tv_nsec = (long)(left_ns % NS_PER_S) };
		if (ppoll(fds, ARRAY_LEN(fds), &left, NULL) <= 0)
			continue;
		return fds[0].revents != 0 ? take_signal(screen) : take_key();
	}
}

/* How many bytes of the line take at most so many columns. */
static size_t cut(const char *line, size_t length, size_t columns)
{
	size_t at = 0, width = 0;
	for (; at < length; at++) {
		bool starts = ((unsigned char)line[at] & 0xc0) != 0x80;
		if (starts && width == columns)
			break;
		width += starts;
	}
	return at;
}

static void put_line(FILE *out, const char *line, size_t length, const struct screen *screen, unsigned row)
{
	fprintf(out, "\033[%u;1H%.*s\033[K", row, (int)cut(line, length, screen->columns), line);
}

int screen_show(const struct screen *screen, const char *text, size_t first_line, const char *last_line)
{
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);
	if (out == NULL)
		return -ENOMEM;
	unsigned row = 1;
	for (size_t line = 0; *text != '\0' && row < screen->rows; line++) {
		size_t length = strcspn(text, "\n");
		if (line >= first_line)
			put_line(out, text, length, screen, row++);
		text += length + (text[length] == '\n');
	}
	for (; row < screen->rows; row++)
		put_line(out, "", 0, screen, row);
	put_line(out, last_line, strlen(last_line), screen, screen->rows);
	int rc = fclose(out) == 0 ? write_all(bytes, size) : -ENOMEM;
	free(bytes);
	return rc;
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
