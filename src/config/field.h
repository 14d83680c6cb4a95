/* What the tables of options.c and option_rows.c say of a field. */
#ifndef AEGIS_CONFIG_FIELD_H
#define AEGIS_CONFIG_FIELD_H

#include <stddef.h>

/* The offset of a field; does not compile where the field has another type than the row's kind needs. */
#define FIELD(owner, field, kind) (offsetof(struct owner, field) + 0 * sizeof(char[_Generic(((struct owner *)0)->field, kind : 1)]))

#endif
