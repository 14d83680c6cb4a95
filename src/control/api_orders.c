/* What only the master can do: POST /reload, /certs/reload, /drain, /undrain. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/api.h"

static const double longest_drain_s = 365 * 86400.0;

static void answer_text(struct api_call *call, unsigned status, const char *json)
{
	struct api_text text;
	if (!api_text_begin(call, &text))
		return;
	(void)fwrite(json, 1, strcspn(json, "\n"), text.out); /* the master's text is one line */
	api_text_end_json(call, &text, status);
}

static void on_ordered(struct api_call *call, int error, const char *json)
{
	if (error == 0)
		answer_text(call, 200, json);
	else if (error == -EINVAL && *json)
		answer_text(call, 422, json);
	else if (error == -ESHUTDOWN)
		api_refuse(call, 409, "Aegis is stopping");
	else if (error == -ECANCELED)
		api_refuse(call, 409, "a drain was asked for before it was done");
	else if (error == -EAGAIN)
		api_refuse(call, 503, "the master is busy; try again");
	else
		api_refuse(call, 503, "the master: %s", strerror(-error));
}

static void log_order(const struct api_call *call, const char *what)
{
	char who[API_WHO_SIZE];
	log_info("%s asked for by %s", what, api_who(call, who));
}

void api_reload(struct api_call *call)
{
	log_order(call, "reload");
	api_order(call, CONTROL_ASK_RELOAD, 0, on_ordered);
}

void api_certificates(struct api_call *call)
{
	log_order(call, "reload of certificates");
	api_order(call, CONTROL_ASK_CERTIFICATES, 0, on_ordered);
}

void api_drain(struct api_call *call)
{
	char why[128];
	double seconds;
	uint64_t timeout_ns = UINT64_MAX;
	int found = json_body_number(call->body, "timeout", 0, longest_drain_s, &seconds, why, sizeof why);
	if (found < 0) {
		api_refuse(call, 400, "%s", why);
		return;
	}
	if (found)
		timeout_ns = (uint64_t)(seconds * (double)NS_PER_S);
	log_order(call, "drain");
	api_order(call, CONTROL_ASK_DRAIN, timeout_ns, on_ordered);
}

void api_undrain(struct api_call *call)
{
	log_order(call, "undrain");
	api_order(call, CONTROL_ASK_UNDRAIN, 0, on_ordered);
}
