#include "control/curl_library.h"

#include <dlfcn.h>
#include <stdio.h>

enum { OLDEST_LIBCURL = 0x074000 };

struct curl_library libcurl;

static void *open_library(void)
{
	static const char *const names[] = { "libcurl.so.4", "libcurl-gnutls.so.4" }; /* Debian has the second one, too */
	void *handle = NULL;

	for (size_t i = 0; i < ARRAY_LEN(names) && !handle; i++)
		handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	return handle;
}

bool curl_library_load(char *why, size_t size)
{
	const char *missing = NULL;

	if (libcurl.handle)
		return true;
	void *handle = open_library();
	if (!handle) {
		snprintf(why, size, "%s", dlerror());
		return false;
	}
#define X(name)                                                         \
	*(void **)(void *)&libcurl.name = dlsym(handle, "curl_" #name); \
	missing = libcurl.name ? missing : "curl_" #name;
	LIBCURL_FUNCTIONS(X)
#undef X
	if (missing || libcurl.version_info(CURLVERSION_NOW)->version_num < OLDEST_LIBCURL) {
		snprintf(why, size, "libcurl %s%s", missing ? "has no " : "is older than 7.64", missing ? missing : "");
		dlclose(handle);
		return false;
	}
	libcurl.handle = handle;
	return true;
}
