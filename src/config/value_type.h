/* What one type of setting does: the seam between value.c, which chooses by the type of a row, and the files that know the types. */
#ifndef AEGIS_CONFIG_VALUE_TYPE_H
#define AEGIS_CONFIG_VALUE_TYPE_H

#include "base/addr.h"
#include "base/cidr.h"
#include "base/text.h"
#include "config/node.h"
#include "config/options.h"

/* A value on its way from the node into the struct. */
struct value {
	uint64_t number;
	const char *text;
	struct endpoint endpoint;
	struct cidr cidr;
};

struct value_type {
	/* False and problem, which says what is wrong but not what would be right. */
	bool (*read)(const struct option *option, const struct node *node, struct value *out, struct text *problem);
	void (*store)(const struct option *option, const struct value *value, unsigned char *base);
	void (*show)(const struct option *option, const unsigned char *base, struct text *out);
	void (*wanted)(const struct option *option, struct text *out);
	enum node_type written_as;
	/* Lists: read, store and show are of one element, which base is then. Else 0 and NULL. */
	size_t element_size;
	const char *element_wanted;
};

extern const struct value_type value_type_text, value_type_name, value_type_path, value_type_file, value_type_target, value_type_bytes,
        value_type_hex, value_type_url_path, value_type_host, value_type_listen, value_type_server, value_type_admin, value_type_cidrs,
        value_type_resolvers;

/* Says what a node is that does not fit. False, for the caller to return. */
bool value_is_not(const struct node *node, struct text *problem);

#endif
