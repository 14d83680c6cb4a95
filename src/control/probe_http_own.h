/* What the files of checks by http share. Private to probe_http.c (libcurl, the loop and one check) and probe_http_outcome.c (how it stands
 * with one, and how it ended). */
#ifndef AEGIS_CONTROL_PROBE_HTTP_OWN_H
#define AEGIS_CONTROL_PROBE_HTTP_OWN_H

#include "control/curl_library.h"
#include "control/probe_http.h"
#include "os/loop.h"

struct probe_http {
	struct loop *loop;
	struct linger_set *linger;
	CURLM *multi;
	struct loop_timer timer;
};

/* libcurl's versions differ in when they close a descriptor, and whether they say so before. So what is watched is a copy of ours, which is
 * also what lets us close without a RST. */
struct probe_http_check {
	struct probe_http *http;
	const struct probe_http_rules *rules;
	const struct dial_source *source; /* or NULL */
	const struct addr *addr;
	outcome_fn *done;
	void *arg;
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *connect_to;
	struct loop_io io;
	int curl_fd; /* -1 = none yet */
	int own_fd;
	int open_error; /* negative */
	size_t received;
	bool in_body;
	char error[CURL_ERROR_SIZE];
};

/* libcurl is done with it. */
void probe_http_judge(const struct probe_http_check *check, CURLcode code, struct outcome *outcome);

#endif
