/* What a snapshot says, as JSON: the output of aegis-stat -j and of GET /status.
 *
 * Process: aegis-stat, and the control process.
 */
#ifndef AEGIS_VIEW_DOCUMENT_H
#define AEGIS_VIEW_DOCUMENT_H

#include <stdio.h>

#include "view/emit.h"
#include "view/snapshot.h"

/* All of it, with a line end behind it; trouble shows in ferror(out). */
void document_print(const struct snapshot *snapshot, FILE *out);

/* Parts of it, for an object that the caller has opened. */
void document_instance(struct emit *emit, const struct snapshot *snapshot);
void document_reloads(struct emit *emit, const struct snapshot *snapshot);
void document_workers(struct emit *emit, const struct snapshot *snapshot);
void document_listeners(struct emit *emit, const struct snapshot *snapshot);
void document_certificates(struct emit *emit, const struct snapshot *snapshot);
void document_upstreams(struct emit *emit, const struct snapshot *snapshot);
/* One server, as an element of a list. */
void document_server(struct emit *emit, const struct snapshot_server *server);

#endif
