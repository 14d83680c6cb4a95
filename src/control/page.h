/* The web page, as it was put together from src/control/page when Aegis was built.
 *
 * Process: control, which serves it at GET /.
 */
#ifndef AEGIS_CONTROL_PAGE_H
#define AEGIS_CONTROL_PAGE_H

#include <stddef.h>

extern const unsigned char page_bytes[];
extern const size_t page_size;

/* The Content-Security-Policy: its own style and script by their hashes, questions to where it came from, and nothing else. */
extern const char page_policy[];
/* Changes with the page. */
extern const char page_etag[];

#endif
