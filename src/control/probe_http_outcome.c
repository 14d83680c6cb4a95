/* What a check by http awaits, and how it ended. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/text.h"
#include "control/probe_http_own.h"

/* The request could be sent. */
static bool was_asked(const struct probe_http_check *check)
{
	curl_off_t ready_us = 0;

	return libcurl.easy_getinfo(check->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us) == CURLE_OK && ready_us > 0;
}

const char *probe_http_awaits(const struct probe_http_check *check)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof peer;

	if (was_asked(check))
		return check->in_body ? "the end of the answer" : "the answer";
	/* libcurl does not tell before the handshake is over, too */
	bool connected = check->own_fd >= 0 && getpeername(check->own_fd, (struct sockaddr *)&peer, &length) == 0;
	return connected && check->rules->tls ? "the TLS handshake" : "the connection";
}

static void not_connected(const struct probe_http_check *check, struct outcome *outcome)
{
	long error = 0;

	(void)libcurl.easy_getinfo(check->easy, CURLINFO_OS_ERRNO, &error);
	outcome_not_connected(outcome, check->open_error ? check->open_error : error ? -(int)error : -ECONNREFUSED);
}

static void judge_status(const struct probe_http_check *check, struct outcome *outcome)
{
	long status = 0;

	(void)libcurl.easy_getinfo(check->easy, CURLINFO_RESPONSE_CODE, &status);
	bool good = status_set_has(&check->rules->expect, status);
	outcome->kind = good ? OUTCOME_GOOD : OUTCOME_BAD;
	outcome->result = good ? HEALTH_RESULT_OK : HEALTH_RESULT_STATUS;
	outcome->detail = (uint32_t)status;
	snprintf(outcome->reason, sizeof outcome->reason, "status %ld", status);
}

static enum health_result result_of(CURLcode code)
{
	switch (code) {
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
		return HEALTH_RESULT_TLS;
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
		return HEALTH_RESULT_CLOSED;
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return HEALTH_RESULT_RESET;
	default:
		return HEALTH_RESULT_ANSWER;
	}
}

static void failed(const struct probe_http_check *check, CURLcode code, struct outcome *outcome)
{
	struct text reason = text_of(outcome->reason, sizeof outcome->reason);

	outcome->kind = OUTCOME_BAD;
	outcome->result = result_of(code);
	/* Of a line of the header that is too long, some versions say that they are out of memory. */
	if (code == CURLE_SSL_CACERT_BADFILE || (code == CURLE_OUT_OF_MEMORY && !was_asked(check)))
		outcome->kind = OUTCOME_UNABLE;
	if (outcome->kind == OUTCOME_UNABLE)
		outcome->result = HEALTH_RESULT_UNTRIED;
	text_add_printable(&reason, check->error[0] ? check->error : libcurl.easy_strerror(code));
}

void probe_http_judge(const struct probe_http_check *check, CURLcode code, struct outcome *outcome)
{
	if (code == CURLE_COULDNT_CONNECT)
		not_connected(check, outcome);
	else if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && check->in_body))
		judge_status(check, outcome);
	else if (code == CURLE_WRITE_ERROR)
		*outcome = (struct outcome){ OUTCOME_BAD, HEALTH_RESULT_ANSWER, 0, "the header is too long" };
	else
		failed(check, code, outcome);
}
