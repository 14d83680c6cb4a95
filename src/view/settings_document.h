/* The effective settings as JSON, by the option table: groups and lists as in aegis.conf. What has no effect is left out, secrets are
 * hidden. Numbers and booleans are such, all else is a text as it would be written there. */
#ifndef AEGIS_VIEW_SETTINGS_DOCUMENT_H
#define AEGIS_VIEW_SETTINGS_DOCUMENT_H

#include "config/config.h"
#include "view/emit.h"

void settings_document(struct emit *emit, const char *key, const struct config *config);

#endif
