/* A JSON document as a tree, read from an answer of the admin interface.
 *
 * Process: aegisctl. Written here, so that aegisctl needs no library and is the same in every build.
 * Owner:   the caller, from tree_parse() to tree_free(); all nodes and texts go with the root.
 *
 * A look-up never fails: what is not there, or of another kind, is read as NULL, 0 or "", so that the tables of a newer aegisctl work with
 * an older instance and the other way round.
 */
#ifndef AEGIS_TOOLS_TREE_H
#define AEGIS_TOOLS_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

enum tree_kind { TREE_NULL, TREE_BOOL, TREE_NUMBER, TREE_STRING, TREE_LIST, TREE_OBJECT };

struct tree {
	enum tree_kind kind;
	char *key;          /* in an object, else NULL */
	char *text;         /* TREE_STRING */
	double number;      /* TREE_NUMBER; 1 for true */
	struct tree *first; /* of a list or an object */
	struct tree *next;  /* the neighbour */
	uint32_t n;         /* members */
};

enum { TREE_MAX_DEPTH = 32 };

/* 0 and *out, or -EINVAL (not JSON, deeper than TREE_MAX_DEPTH, or something behind it), or -ENOMEM. */
must_check int tree_parse(const char *text, struct tree **out);
void tree_free(struct tree *tree);

/* All take NULL for a node that is not there. The last of several members of one name is not seen. */
const struct tree *tree_get(const struct tree *object, const char *key);
const char *tree_string(const struct tree *object, const char *key);
/* Rounded towards zero; negative, and beyond 2^63, is 0. */
uint64_t tree_u64(const struct tree *object, const char *key);
double tree_number(const struct tree *object, const char *key);
bool tree_bool(const struct tree *object, const char *key);

#endif
