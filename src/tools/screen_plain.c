/* The painter without a library: ANSI sequences that every terminal of today has, bold and reverse instead of colours. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tools/live.h"
#include "tools/screen.h"

static const char enter[] = "\033[?1049h\033[?25l\033[?7l\033[2J";
static const char leave[] = "\033[0m\033[?7h\033[?25h\033[?1049l";

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

/* Write first, so that a terminal that cannot be written to is left as it is. */
static int plain_open(struct screen *screen)
{
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
	screen->n_input = 0;
	screen_ask_size(screen);
	return 0;
}

static void plain_close(struct screen *screen)
{
	(void)screen;
	(void)write_all(leave, sizeof leave - 1);
}

/* What a key sends, where that is more than one byte. */
static const struct {
	const char *bytes;
	int key;
} keys[] = {
	{ "\033[A", LIVE_KEY_UP },
	{ "\033OA", LIVE_KEY_UP },
	{ "\033[B", LIVE_KEY_DOWN },
	{ "\033OB", LIVE_KEY_DOWN },
	{ "\033[C", LIVE_KEY_RIGHT },
	{ "\033OC", LIVE_KEY_RIGHT },
	{ "\033[D", LIVE_KEY_LEFT },
	{ "\033OD", LIVE_KEY_LEFT },
	{ "\033[5~", LIVE_KEY_PAGE_UP },
	{ "\033[6~", LIVE_KEY_PAGE_DOWN },
	{ "\033[H", LIVE_KEY_HOME },
	{ "\033OH", LIVE_KEY_HOME },
	{ "\033[1~", LIVE_KEY_HOME },
	{ "\033[F", LIVE_KEY_END },
	{ "\033OF", LIVE_KEY_END },
	{ "\033[4~", LIVE_KEY_END },
	{ "\033[Z", LIVE_KEY_BACK_TAB },
};

/* How long a sequence is that we do not know: up to its letter or tilde. */
static size_t unknown_length(const unsigned char *input, size_t n)
{
	size_t length = 2;
	if (n < 2 || (input[1] != '[' && input[1] != 'O'))
		return 1;
	while (length < n && (input[length] < 0x40 || input[length] > 0x7e))
		length++;
	return length < n ? length + 1 : n;
}

/* The first key of the input, and how many bytes it took. 0 = one of no meaning. */
static int first_key(const unsigned char *input, size_t n, size_t *used)
{
	*used = 1;
	if (input[0] == '\r' || input[0] == '\n')
		return LIVE_KEY_ENTER;
	if (input[0] == 0x7f || input[0] == '\b')
		return LIVE_KEY_BACKSPACE;
	if (input[0] != '\033')
		return input[0];
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		*used = strlen(keys[i].bytes);
		if (n >= *used && memcmp(input, keys[i].bytes, *used) == 0)
			return keys[i].key;
	}
	*used = unknown_length(input, n);
	return *used == 1 ? LIVE_KEY_ESCAPE : 0;
}

/* A sequence comes in one piece, as terminals send it. */
static int plain_read_key(struct screen *screen)
{
	int key = 0;
	if (screen->n_input == 0) {
		ssize_t n = read(STDIN_FILENO, screen->input, sizeof screen->input);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		screen->n_input = n > 0 ? (size_t)n : 0;
	}
	while (key == 0 && screen->n_input > 0) {
		size_t used;
		key = first_key(screen->input, screen->n_input, &used);
		screen->n_input -= used;
		memmove(screen->input, screen->input + used, screen->n_input);
	}
	return key;
}

static const char *style_sequence(enum canvas_style style)
{
	switch (style) {
	case STYLE_BAR:
	case STYLE_SORTED:
		return "\033[0;1;7m";
	case STYLE_HEAD:
		return "\033[0;7m";
	case STYLE_STRONG:
	case STYLE_WARN:
	case STYLE_BAD:
		return "\033[0;1m";
	default:
		return "\033[0m";
	}
}

static void put_row(const struct canvas *canvas, unsigned row, FILE *out)
{
	const char *style = "";
	fprintf(out, "\033[%u;1H", row + 1);
	for (unsigned column = 0; column < canvas->columns; column++) {
		const struct canvas_cell *cell = canvas_at(canvas, row, column);
		char bytes[5];
		if (strcmp(style, style_sequence(cell->style)) != 0)
			fputs(style = style_sequence(cell->style), out);
		(void)canvas_utf8(cell->character, bytes);
		fputs(bytes, out);
	}
	fputs("\033[0m", out);
}

static int plain_show(struct screen *screen, const struct canvas *canvas)
{
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);
	(void)screen;
	if (out == NULL)
		return -ENOMEM;
	for (unsigned row = 0; row < canvas->rows; row++)
		put_row(canvas, row, out);
	int rc = fclose(out) == 0 ? write_all(bytes, size) : -ENOMEM;
	free(bytes);
	return rc;
}

const struct screen_painter *screen_plain(void)
{
	static const struct screen_painter painter = {
		.open = plain_open, .close = plain_close, .measure = screen_ask_size, .read_key = plain_read_key, .show = plain_show
	};
	return &painter;
}
