/* Built without ncurses. */
#include "tools/screen.h"

const struct screen_painter *screen_curses(void)
{
	return NULL;
}
