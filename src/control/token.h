/* The secret that a request over TCP carries in its header ("Authorization: Bearer TOKEN"): read from a file, compared without telling by
 * the time it takes how much of a guess was right.
 *
 * Process: master (only to see whether the file is good), control. Owner: the caller; token_forget() wipes it.
 */
#ifndef AEGIS_CONTROL_TOKEN_H
#define AEGIS_CONTROL_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

enum { TOKEN_SHORTEST = 16, TOKEN_LONGEST = 512 };

struct token {
	size_t length; /* 0 = none */
	char bytes[TOKEN_LONGEST];
};

/* The first line of the file. 0 and *out, or a negative errno with *why a sentence that begins with the path. */
must_check int token_read(const char *path, struct token *out, char *why, size_t why_size);
void token_forget(struct token *token);

/* The value of an Authorization header; NULL is none. */
must_check bool token_matches(const struct token *token, const char *authorization);

#endif
