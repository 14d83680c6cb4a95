/* libcurl, in one place: the only file that names its header. Loaded by the process that needs it, when it does: it comes with some thirty
 * other libraries, which would take each start of Aegis 4 ms and more, and every worker memory.
 */
#ifndef AEGIS_CONTROL_CURL_LIBRARY_H
#define AEGIS_CONTROL_CURL_LIBRARY_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* clang-format off */
#define LIBCURL_FUNCTIONS(X) \
	X(easy_cleanup) X(easy_getinfo) X(easy_init) X(easy_setopt) X(easy_strerror) X(global_cleanup) \
	X(global_init) X(multi_add_handle) X(multi_cleanup) X(multi_info_read) X(multi_init) X(multi_remove_handle) \
	X(multi_setopt) X(multi_socket_action) X(slist_append) X(slist_free_all) X(version_info)
/* clang-format on */

/* A library is there once for a process, and so is this. */
extern struct curl_library {
	void *handle;
#define X(name) typeof(&curl_##name) name;
	LIBCURL_FUNCTIONS(X)
#undef X
} libcurl;

/* Before the first use of libcurl, and once is enough: it stays for good. False, and why, where there is none that will do. */
must_check bool curl_library_load(char *why, size_t size);

#endif
