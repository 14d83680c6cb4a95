/* Is a text good libconfig? Says what is wrong in words, bounds the depth, and finds settings that are given twice, before
 * libconfig reads it. */
#ifndef AEGIS_CONFIG_SYNTAX_H
#define AEGIS_CONFIG_SYNTAX_H

#include "config/source.h"

enum { SYNTAX_MAX_DEPTH = 32 };

/* True, or false with an error added. Makes a ',' after the last element of a list blank, which old libconfig does not take. */
must_check bool syntax_check(struct source *source);

#endif
