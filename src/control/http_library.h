/* libmicrohttpd, in one place: the only file that names its header. It is loaded when the first client comes: it brings ten other libraries
 * along.
 */
#ifndef AEGIS_CONTROL_HTTP_LIBRARY_H
#define AEGIS_CONTROL_HTTP_LIBRARY_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* clang-format off */
#define MHD_FUNCTIONS(X) \
	X(add_connection) X(add_response_header) X(create_response_from_buffer) X(create_response_from_callback) \
	X(destroy_response) X(get_connection_info) X(get_daemon_info) X(get_timeout) X(get_version) X(lookup_connection_value) X(queue_response) X(resume_connection) \
	X(run) X(start_daemon) X(stop_daemon) X(suspend_connection)
/* clang-format on */

struct http_library {
	void *handle;
#define X(name) typeof(&MHD_##name) name;
	MHD_FUNCTIONS(X)
#undef X
};

/* As with libcurl: a library is there once for a process, and so is this. */
extern struct http_library mhd;

/* Before the first use of mhd, and once is enough: it stays for good. False, and why, where there is none that will do. */
must_check bool http_library_load(char *why, size_t size);

#endif
