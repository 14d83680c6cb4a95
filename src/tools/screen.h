/* A terminal taken over for a full-screen display, by plain ANSI sequences: the alternate screen, no echo, no cursor.
 *
 * Process: aegis-stat. The signals that end or stop it are taken as events while the screen is open, so that every way out gives
 * the terminal back as it was.
 * States: closed -> screen_open() -> open -> screen_close() -> closed; a stop (Ctrl-Z) closes and opens again inside.
 */
#ifndef AEGIS_TOOLS_SCREEN_H
#define AEGIS_TOOLS_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <termios.h>

#include "base/attr.h"

enum screen_event {
	SCREEN_TIME,   /* the deadline passed */
	SCREEN_REDRAW, /* the size changed, or the display was away */
	SCREEN_QUIT,   /* q, Ctrl-C, end of input */
	SCREEN_SIGNAL, /* to end because of screen.signal */
	SCREEN_UP,
	SCREEN_DOWN,
	SCREEN_PAGE_UP,
	SCREEN_PAGE_DOWN,
};

struct screen {
	struct termios before;
	int signals_fd;
	int signal;
	unsigned rows, columns;
};

/* Is there a terminal that can do it? */
bool screen_possible(void);

/* 0 or a negative errno. */
must_check int screen_open(struct screen *screen);
void screen_close(struct screen *screen);

/* What happens next, at the latest SCREEN_TIME at the deadline. */
enum screen_event screen_wait(struct screen *screen, uint64_t deadline_ns);

/* Show lines of the text from the given one on, cut to the width, and the last line of the screen. 0 or a negative errno. */
must_check int screen_show(const struct screen *screen, const char *text, size_t first_line, const char *last_line);

/* Die of the signal that came, as if it had not been held back. Call it after screen_close(). */
void screen_die(const struct screen *screen);

#endif
