/* The terminal as a full-screen display: keys come from it, a canvas goes to it. A painter does the work: ncurses where it is built in and
 * knows the terminal, else plain ANSI sequences without colours.
 *
 * Process: aegis-stat. The signals that end or stop it are taken as events while the screen is open, so that every way out gives
 * the terminal back as it was.
 * States: closed -> screen_open() -> open -> screen_close() -> closed; a stop (Ctrl-Z) closes and opens again inside.
 */
#ifndef AEGIS_TOOLS_SCREEN_H
#define AEGIS_TOOLS_SCREEN_H

#include <termios.h>

#include "tools/canvas.h"

enum screen_event {
	SCREEN_TIME,   /* the deadline passed */
	SCREEN_REDRAW, /* the size changed, or the display was away */
	SCREEN_KEY,    /* screen.key, as in enum live_key */
	SCREEN_QUIT,   /* Ctrl-C, Ctrl-D, end of input */
	SCREEN_SIGNAL, /* to end because of screen.signal */
};

struct screen;

/* Who brings it to the terminal. */
struct screen_painter {
	/* Take the terminal and measure it: 0, or a negative errno with the terminal as it was. */
	int (*open)(struct screen *screen);
	/* Give it back; where it is gone there is nothing to give. */
	void (*close)(struct screen *screen);
	/* The size changed. */
	void (*measure)(struct screen *screen);
	/* A key that waits; 0 = none now, negative = there will be none any more. */
	int (*read_key)(struct screen *screen);
	/* 0 or a negative errno. */
	int (*show)(struct screen *screen, const struct canvas *canvas);
};

struct screen {
	const struct screen_painter *painter;
	struct termios before;
	bool has_colours, is_utf8;
	int signals_fd;
	int signal;
	int key;
	unsigned rows, columns;
	unsigned char input[64]; /* of the plain painter: read and not taken yet */
	size_t n_input;
};

/* Is there a terminal that can do it? If not *why is the end of a sentence: "the output is no terminal". */
bool screen_possible(const char **why);

/* 0 or a negative errno. */
must_check int screen_open(struct screen *screen);
void screen_close(struct screen *screen);

/* What happens next, at the latest SCREEN_TIME at the deadline. */
enum screen_event screen_wait(struct screen *screen, uint64_t deadline_ns);

/* 0 or a negative errno. */
must_check int screen_show(struct screen *screen, const struct canvas *canvas);

/* Die of the signal that came, as if it had not been held back. Call it after screen_close(). */
void screen_die(const struct screen *screen);

/* For painters: rows and columns as the kernel has them, else 24 x 80. */
void screen_ask_size(struct screen *screen);

/* The painters. That of ncurses is NULL where it is not built in, or where it does not know this terminal. */
const struct screen_painter *screen_plain(void);
const struct screen_painter *screen_curses(void);

#endif
