/* Lines of words for texts that two programs of different versions read and write: any name is one word, numbers are decimal. */
#ifndef AEGIS_BASE_WORD_H
#define AEGIS_BASE_WORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

/* A space and the word: what would end it, '%' and '-' as %XX; nothing at all as "-". */
void word_write(FILE *out, const char *word);

/* The next word of a line, cut off in place, as it was written; NULL at the line's end. *line moves on. */
char *word_next(char **line);
/* The same, back to what it was; NULL too when it is damaged. */
char *word_next_text(char **line);
must_check bool word_next_number(char **line, uint64_t most, uint64_t *out);

#endif
