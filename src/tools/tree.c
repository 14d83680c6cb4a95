#include "tools/tree.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

struct reader {
	const char *at;
	unsigned depth;
};

static int read_value(struct reader *reader, struct tree *node);

static void skip_space(struct reader *reader)
{
	reader->at += strspn(reader->at, " \t\r\n");
}

static bool take(struct reader *reader, const char *word)
{
	size_t length = strlen(word);
	if (strncmp(reader->at, word, length) != 0)
		return false;
	reader->at += length;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	int lower = tolower((unsigned char)c);
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* \uXXXX as UTF-8; half of a surrogate pair, and NUL, as '?': nothing that Aegis says has either. */
static int read_code(struct reader *reader, char **out)
{
	unsigned code = 0;
	for (int i = 0; i < 4; i++, reader->at++) {
		int digit = hex_digit(*reader->at);
		if (digit < 0)
			return -EINVAL;
		code = code * 16 + (unsigned)digit;
	}
	if (code == 0 || (code >= 0xd800 && code <= 0xdfff))
		code = '?';
	if (code < 0x80) {
		*(*out)++ = (char)code;
	} else if (code < 0x800) {
		*(*out)++ = (char)(0xc0 | code >> 6);
		*(*out)++ = (char)(0x80 | (code & 0x3f));
	} else {
		*(*out)++ = (char)(0xe0 | code >> 12);
		*(*out)++ = (char)(0x80 | (code >> 6 & 0x3f));
		*(*out)++ = (char)(0x80 | (code & 0x3f));
	}
	return 0;
}

static int read_escape(struct reader *reader, char **out)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	char letter = *reader->at++;
	if (letter == 'u')
		return read_code(reader, out);
	const char *found = letter == '\0' ? NULL : strchr(letters, letter);
	if (found == NULL)
		return -EINVAL;
	*(*out)++ = meant[found - letters];
	return 0;
}

/* Behind the opening quote. What is meant is never longer than what stands there. */
static int read_string(struct reader *reader, char **out)
{
	size_t room = 1;
	for (const char *c = reader->at; *c != '"'; c++, room++) {
		if (*c == '\\' && c[1] != '\0')
			c++, room++;
		if ((unsigned char)*c < ' ')
			return -EINVAL;
	}
	char *text = malloc(room), *to = text;
	if (text == NULL)
		return -ENOMEM;
	int rc = 0;
	while (rc == 0 && *reader->at != '"') {
		if (*reader->at != '\\') {
			*to++ = *reader->at++;
			continue;
		}
		reader->at++;
		rc = read_escape(reader, &to);
	}
	if (rc < 0) {
		free(text);
		return rc;
	}
	reader->at++;
	*to = '\0';
	*out = text;
	return 0;
}

/* strtod() alone would take "0x1", "inf" and " 1". */
static int read_number(struct reader *reader, struct tree *node)
{
	size_t length = strspn(reader->at, "+-0123456789.eE");
	char *end;
	if (length == 0 || reader->at[0] == '+' || reader->at[0] == '.' || reader->at[0] == 'e' || reader->at[0] == 'E')
		return -EINVAL;
	node->kind = TREE_NUMBER;
	node->number = strtod(reader->at, &end);
	if (end != reader->at + length)
		return -EINVAL;
	reader->at = end;
	return 0;
}

static int read_member(struct reader *reader, struct tree *parent, struct tree *member)
{
	skip_space(reader);
	if (parent->kind == TREE_OBJECT) {
		if (!take(reader, "\""))
			return -EINVAL;
		int rc = read_string(reader, &member->key);
		if (rc < 0)
			return rc;
		skip_space(reader);
		if (!take(reader, ":"))
			return -EINVAL;
	}
	return read_value(reader, member);
}

/* Behind the opening bracket. */
static int read_members(struct reader *reader, struct tree *parent, const char *closing)
{
	struct tree **link = &parent->first;
	if (++reader->depth > TREE_MAX_DEPTH)
		return -EINVAL;
	skip_space(reader);
	bool more = !take(reader, closing);
	while (more) {
		struct tree *member = calloc(1, sizeof *member);
		if (member == NULL)
			return -ENOMEM;
		*link = member; /* from here on tree_free() of the root frees it */
		link = &member->next;
		parent->n++;
		int rc = read_member(reader, parent, member);
		if (rc < 0)
			return rc;
		skip_space(reader);
		more = take(reader, ",");
		if (!more && !take(reader, closing))
			return -EINVAL;
	}
	reader->depth--;
	return 0;
}

static int read_value(struct reader *reader, struct tree *node)
{
	skip_space(reader);
	if (take(reader, "{")) {
		node->kind = TREE_OBJECT;
		return read_members(reader, node, "}");
	}
	if (take(reader, "[")) {
		node->kind = TREE_LIST;
		return read_members(reader, node, "]");
	}
	if (take(reader, "\"")) {
		node->kind = TREE_STRING;
		return read_string(reader, &node->text);
	}
	if (take(reader, "null"))
		return 0;
	bool is_true = take(reader, "true");
	if (!is_true && !take(reader, "false"))
		return read_number(reader, node);
	node->kind = TREE_BOOL;
	node->number = is_true;
	return 0;
}

int tree_parse(const char *text, struct tree **out)
{
	struct reader reader = { .at = text };
	struct tree *root = calloc(1, sizeof *root);
	if (root == NULL)
		return -ENOMEM;
	int rc = read_value(&reader, root);
	skip_space(&reader);
	if (rc == 0 && *reader.at != '\0')
		rc = -EINVAL;
	if (rc < 0) {
		tree_free(root);
		return rc;
	}
	*out = root;
	return 0;
}

/* Neighbours in a loop, so that only the depth, which is bounded, takes stack. */
void tree_free(struct tree *tree)
{
	while (tree != NULL) {
		struct tree *next = tree->next;
		tree_free(tree->first);
		free(tree->key);
		free(tree->text);
		free(tree);
		tree = next;
	}
}

const struct tree *tree_get(const struct tree *object, const char *key)
{
	const struct tree *member = object != NULL && object->kind == TREE_OBJECT ? object->first : NULL;
	while (member != NULL && strcmp(member->key, key) != 0)
		member = member->next;
	return member;
}

const char *tree_string(const struct tree *object, const char *key)
{
	const struct tree *member = tree_get(object, key);
	return member != NULL && member->kind == TREE_STRING ? member->text : "";
}

double tree_number(const struct tree *object, const char *key)
{
	const struct tree *member = tree_get(object, key);
	return member != NULL && member->kind == TREE_NUMBER ? member->number : 0;
}

uint64_t tree_u64(const struct tree *object, const char *key)
{
	double number = tree_number(object, key);
	return number >= 0 && number < 0x1p63 ? (uint64_t)number : 0;
}

bool tree_bool(const struct tree *object, const char *key)
{
	const struct tree *member = tree_get(object, key);
	return member != NULL && member->kind == TREE_BOOL && member->number != 0;
}
