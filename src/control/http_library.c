#include "control/http_library.h"

#include <dlfcn.h>
#include <stdio.h>

struct http_library mhd;

bool http_library_load(char *why, size_t size)
{
	const char *missing = NULL;
	if (mhd.handle)
		return true;
	void *handle = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		(void)snprintf(why, size, "%s", dlerror());
		return false;
	}
#define X(name)                                                    \
	*(void **)(void *)&mhd.name = dlsym(handle, "MHD_" #name); \
	missing = mhd.name ? missing : "MHD_" #name;
	MHD_FUNCTIONS(X)
#undef X
	if (missing) {
		(void)snprintf(why, size, "libmicrohttpd has no %s", missing);
		dlclose(handle);
		return false;
	}
	mhd.handle = handle;
	return true;
}
