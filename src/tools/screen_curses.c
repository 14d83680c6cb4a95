/* The painter on ncurses, which knows what each terminal can do. The only user of that library.
 *
 * Signals are held back while the screen is open and come as events (screen.c), so that the handlers which ncurses installs never run.
 */
#define NCURSES_WIDECHAR 1
#define NCURSES_NOMACROS 1
#include <curses.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <unistd.h>

/* term.h has macros of these names. */
#undef columns
#undef lines

#include "tools/live.h"
#include "tools/screen.h"

/* One terminal, one display. */
static SCREEN *display;

static attr_t attributes[N_CANVAS_STYLES];
static short pairs[N_CANVAS_STYLES];

/* A dark grey of the palette of 256 colours; where there are fewer, black. */
enum { GREY = 238, MANY_COLOURS = 256 };

/* How a style looks without colours, and the colour that it has besides. */
static const struct {
	attr_t plain, coloured;
	short colour; /* of the letters; -1 = as they are */
	short ground;
} looks[N_CANVAS_STYLES] = {
	[STYLE_PLAIN] = { A_NORMAL, A_NORMAL, -1, -1 },
	[STYLE_BAR] = { A_REVERSE | A_BOLD, A_BOLD, COLOR_WHITE, COLOR_BLUE },
	[STYLE_HEAD] = { A_REVERSE, A_NORMAL, COLOR_WHITE, GREY },
	[STYLE_SORTED] = { A_REVERSE | A_BOLD | A_UNDERLINE, A_NORMAL, COLOR_BLACK, COLOR_CYAN },
	[STYLE_FAINT] = { A_NORMAL, A_NORMAL, COLOR_CYAN, -1 },
	[STYLE_STRONG] = { A_BOLD, A_BOLD, -1, -1 },
	[STYLE_GOOD] = { A_NORMAL, A_NORMAL, COLOR_GREEN, -1 },
	[STYLE_WARN] = { A_BOLD, A_BOLD, COLOR_YELLOW, -1 },
	[STYLE_BAD] = { A_BOLD, A_BOLD, COLOR_RED, -1 },
	[STYLE_CHART] = { A_NORMAL, A_NORMAL, COLOR_GREEN, -1 },
};

/* 0, the colours of the terminal, where a style has none of its own. */
static short choose_pair(short style)
{
	short ground = looks[style].ground == GREY && COLORS < MANY_COLOURS ? COLOR_BLACK : looks[style].ground;
	if (looks[style].colour < 0 && ground < 0)
		return 0;
	return init_pair((short)(style + 1), looks[style].colour, ground) == OK ? (short)(style + 1) : 0;
}

static void choose_looks(bool wanted)
{
	bool coloured = wanted && has_colors() && start_color() == OK && use_default_colors() == OK;
	for (short i = 0; i < N_CANVAS_STYLES; i++) {
		attributes[i] = coloured ? looks[i].coloured : looks[i].plain;
		pairs[i] = coloured ? choose_pair(i) : 0;
	}
}

static void curses_measure(struct screen *screen)
{
	screen_ask_size(screen);
	resizeterm((int)screen->rows, (int)screen->columns);
	clearok(curscr, TRUE);
}

static int curses_open(struct screen *screen)
{
	if (display == NULL) {
		display = newterm(NULL, stdout, stdin);
		if (display == NULL)
			return -ENOTTY;
		choose_looks(screen->has_colours);
	}
	if (cbreak() == ERR || noecho() == ERR || nonl() == ERR)
		goto refused;
	intrflush(stdscr, FALSE);
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(25);
	(void)curs_set(0); /* not every terminal can */
	if (wrefresh(stdscr) == ERR)
		goto refused;
	curses_measure(screen);
	return 0;
refused:
	endwin();
	return -EIO;
}

static void curses_close(struct screen *screen)
{
	(void)screen;
	(void)curs_set(1);
	endwin();
}

/* 0 where it is of no meaning here. */
static int translate(int key)
{
	static const struct {
		int from, to;
	} keys[] = { { KEY_UP, LIVE_KEY_UP }, { KEY_DOWN, LIVE_KEY_DOWN }, { KEY_LEFT, LIVE_KEY_LEFT }, { KEY_RIGHT, LIVE_KEY_RIGHT },
		{ KEY_PPAGE, LIVE_KEY_PAGE_UP }, { KEY_NPAGE, LIVE_KEY_PAGE_DOWN }, { KEY_HOME, LIVE_KEY_HOME }, { KEY_END, LIVE_KEY_END },
		{ KEY_BACKSPACE, LIVE_KEY_BACKSPACE }, { 0x7f, LIVE_KEY_BACKSPACE }, { '\b', LIVE_KEY_BACKSPACE },
		{ KEY_ENTER, LIVE_KEY_ENTER }, { '\r', LIVE_KEY_ENTER }, { '\n', LIVE_KEY_ENTER }, { '\033', LIVE_KEY_ESCAPE },
		{ KEY_BTAB, LIVE_KEY_BACK_TAB } };
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (keys[i].from == key)
			return keys[i].to;
	return key <= 0xff ? key : 0;
}

/* Goes on behind keys without a meaning, such as KEY_RESIZE, which ncurses puts there itself: what it has read nobody else can wait for. */
static int curses_read_key(struct screen *screen)
{
	int key;
	(void)screen;
	while ((key = wgetch(stdscr)) != ERR)
		if (translate(key) != 0)
			return translate(key);
	return 0;
}

static void put_row(const struct canvas *canvas, unsigned row)
{
	wmove(stdscr, (int)row, 0);
	for (unsigned column = 0; column < canvas->columns; column++) {
		const struct canvas_cell *cell = canvas_at(canvas, row, column);
		wchar_t text[2] = { (wchar_t)cell->character, L'\0' };
		cchar_t character;
		if (setcchar(&character, text, attributes[cell->style], pairs[cell->style], NULL) == OK)
			(void)mvwadd_wch(
			        stdscr, (int)row, (int)column, &character); /* ERR in the last corner, where the cursor cannot go on */
	}
}

static int curses_show(struct screen *screen, const struct canvas *canvas)
{
	(void)screen;
	werase(stdscr);
	for (unsigned row = 0; row < canvas->rows; row++)
		put_row(canvas, row);
	return wrefresh(stdscr) == ERR ? -EIO : 0;
}

/* A terminal that the database does not have, or that cannot go to a place, is none for ncurses. */
static bool knows_terminal(void)
{
	int found;
	char name[] = "cup";
	if (setupterm(NULL, STDOUT_FILENO, &found) != OK)
		return false;
	const char *place = tigetstr(name);
	bool knows = place != NULL && place != (char *)-1;
	del_curterm(cur_term);
	return knows;
}

const struct screen_painter *screen_curses(void)
{
	static const struct screen_painter painter = {
		.open = curses_open, .close = curses_close, .measure = curses_measure, .read_key = curses_read_key, .show = curses_show
	};
	return display != NULL || knows_terminal() ? &painter : NULL;
}
