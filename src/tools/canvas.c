#include "tools/canvas.h"

#include <errno.h>
#include <string.h>

int canvas_resize(struct canvas *canvas, unsigned rows, unsigned columns)
{
	if (rows > CANVAS_MAX_ROWS)
		rows = CANVAS_MAX_ROWS;
	if (columns > CANVAS_MAX_COLUMNS)
		columns = CANVAS_MAX_COLUMNS;
	struct canvas_cell *cells = calloc((size_t)rows * columns + 1, sizeof *cells);
	if (cells == NULL)
		return -ENOMEM;
	free(canvas->cells);
	canvas->cells = cells;
	canvas->rows = rows;
	canvas->columns = columns;
	canvas_clear(canvas);
	return 0;
}

void canvas_free(struct canvas *canvas)
{
	free(canvas->cells);
	*canvas = (struct canvas){ 0 };
}

void canvas_clear(struct canvas *canvas)
{
	for (size_t i = 0; i < (size_t)canvas->rows * canvas->columns; i++)
		canvas->cells[i] = (struct canvas_cell){ ' ', STYLE_PLAIN };
}

const struct canvas_cell *canvas_at(const struct canvas *canvas, unsigned row, unsigned column)
{
	ensure(row < canvas->rows && column < canvas->columns);
	return &canvas->cells[(size_t)row * canvas->columns + column];
}

/* Characters beyond ASCII that take one place everywhere: letters of Europe, and the signs that the live view uses itself. */
static bool takes_one_place(uint32_t character)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = { { 0x20, 0x7e }, { 0xa0, 0xac }, { 0xae, 0x2ff }, { 0x370, 0x482 }, { 0x48a, 0x58f }, { 0x2010, 0x2015 },
		{ 0x2018, 0x201f }, { 0x2022, 0x2022 }, { 0x2026, 0x2026 }, { 0x2190, 0x2193 }, { 0x2500, 0x257f }, { 0x2581, 0x2588 },
		{ 0x25b2, 0x25b2 }, { 0x25bc, 0x25bc } };
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		if (character >= ranges[i].first && character <= ranges[i].last)
			return true;
	return false;
}

static uint32_t near_ascii(uint32_t character)
{
	static const struct {
		uint32_t character;
		char near;
	} pairs[] = { { 0x2026, '~' }, { 0xb7, '-' }, { 0x2192, '>' }, { 0x2190, '<' }, { 0x2191, '^' }, { 0x2193, 'v' }, { 0x25b2, '^' },
		{ 0x25bc, 'v' }, { 0x2500, '-' }, { 0x2502, '|' }, { 0x2581, '_' }, { 0x2582, '.' }, { 0x2583, ':' }, { 0x2584, '-' },
		{ 0x2585, '=' }, { 0x2586, '+' }, { 0x2587, '*' }, { 0x2588, '#' } };
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		if (pairs[i].character == character)
			return (uint32_t)pairs[i].near;
	return '?';
}

/* The next character of the text; a byte that begins none is one itself, and not shown as it is. */
static uint32_t next_character(const char **text)
{
	const unsigned char *p = (const unsigned char *)*text;
	size_t length = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
	uint32_t character = length == 1 ? p[0] : length == 0 ? 0xfffd : p[0] & (0x7fU >> length);
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			length = i;
			character = 0xfffd;
			break;
		}
		character = character << 6 | (p[i] & 0x3f);
	}
	*text += length == 0 ? 1 : length;
	return character;
}

void canvas_put_character(struct canvas *canvas, unsigned row, unsigned column, enum canvas_style style, uint32_t character)
{
	if (row >= canvas->rows || column >= canvas->columns)
		return;
	if (!takes_one_place(character))
		character = '?';
	else if (canvas->ascii && character > 0x7e)
		character = near_ascii(character);
	canvas->cells[(size_t)row * canvas->columns + column] = (struct canvas_cell){ character, style };
}

unsigned canvas_put(struct canvas *canvas, unsigned row, unsigned column, unsigned width, enum canvas_style style, const char *text)
{
	unsigned used = 0, room = column < canvas->columns ? canvas->columns - column : 0;
	if (width > room)
		width = room;
	while (*text != '\0' && used < width)
		canvas_put_character(canvas, row, column + used++, style, next_character(&text));
	/* What does not fit must not look whole. */
	if (*text != '\0' && width > 1)
		canvas_put_character(canvas, row, column + width - 1, style, 0x2026);
	return used;
}

void canvas_put_right(struct canvas *canvas, unsigned row, unsigned column, unsigned width, enum canvas_style style, const char *text)
{
	unsigned wide = canvas_width(text);
	canvas_put(canvas, row, column + (wide < width ? width - wide : 0), width, style, text);
}

void canvas_dye(struct canvas *canvas, unsigned row, enum canvas_style style)
{
	for (unsigned column = 0; row < canvas->rows && column < canvas->columns; column++)
		canvas->cells[(size_t)row * canvas->columns + column].style = style;
}

size_t canvas_utf8(uint32_t character, char out[5])
{
	size_t length = 0;
	if (character < 0x80) {
		out[length++] = (char)character;
	} else if (character < 0x800) {
		out[length++] = (char)(0xc0 | character >> 6);
		out[length++] = (char)(0x80 | (character & 0x3f));
	} else {
		out[length++] = (char)(0xe0 | character >> 12);
		out[length++] = (char)(0x80 | (character >> 6 & 0x3f));
		out[length++] = (char)(0x80 | (character & 0x3f));
	}
	out[length] = '\0';
	return length;
}

char *canvas_row_text(const struct canvas *canvas, unsigned row, char *out, size_t size)
{
	size_t length = 0, whole = 0;
	ensure(size >= 1);
	for (unsigned column = 0; row < canvas->rows && column < canvas->columns; column++) {
		char bytes[5];
		size_t n = canvas_utf8(canvas_at(canvas, row, column)->character, bytes);
		if (length + n >= size)
			break;
		memcpy(out + length, bytes, n);
		length += n;
		if (bytes[0] != ' ')
			whole = length;
	}
	out[whole] = '\0';
	return out;
}

unsigned canvas_width(const char *text)
{
	unsigned width = 0;
	while (*text != '\0') {
		(void)next_character(&text);
		width++;
	}
	return width;
}
