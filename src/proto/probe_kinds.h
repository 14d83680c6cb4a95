/* What the kinds of probes share with probe.c. Private to this folder.
 *
 * A step looks at what is kept and not yet read, and takes it only when it is complete: so a verdict cannot depend on how the bytes were
 * split. It is called again after every step that took something. */
#ifndef AEGIS_PROTO_PROBE_KINDS_H
#define AEGIS_PROTO_PROBE_KINDS_H

#include <stdbool.h>

#include "proto/probe.h"

/* The verdict, with its reason. */
void probe_conclude(struct probe *probe, enum probe_verdict verdict, const char *format, ...) printf_like(3, 4);
/* The same, followed by ": " and what the server said, made printable. */
void probe_conclude_said(struct probe *probe, enum probe_verdict verdict, const char *what, const char *said, size_t count);
/* Wait for this. */
void probe_wait_for(struct probe *probe, const char *what);
/* Have this sent, after what was not sent yet. */
void probe_say(struct probe *probe, const void *bytes, size_t count);
const char *probe_user(const struct probe *probe);

static inline const uint8_t *probe_unread(const struct probe *probe, size_t *count)
{
	*count = probe->kept - probe->read;
	return (const uint8_t *)probe->bytes + probe->read;
}

void probe_http_begin(struct probe *probe);
bool probe_http_step(struct probe *probe);
void probe_postgres_begin(struct probe *probe);
bool probe_postgres_step(struct probe *probe);
void probe_mysql_begin(struct probe *probe);
bool probe_mysql_step(struct probe *probe);

#endif
