/* GET /settings: the settings in force. They are read where the master wrote them, for what a reload changes in place this process does not
 * hear. */
#include <errno.h>
#include <string.h>

#include "config/settings.h"
#include "control/api.h"
#include "view/settings_document.h"

static void emit_all(struct emit *emit, const struct settings *settings)
{
	const struct config_source *source = &settings->origin.source;

	emit_open(emit, NULL, '{');
	emit_string(emit, "file", source->file ? source->file : "");
	emit_open(emit, "overrides", '[');
	for (size_t i = 0; i < source->n_overrides; i++)
		emit_string(emit, NULL, source->overrides[i]);
	emit_close(emit, ']');
	emit_u64(emit, "generation", settings->origin.generation);
	emit_u64(emit, "max_workers", settings->origin.max_workers);
	settings_document(emit, "settings", settings->config);
	emit_close(emit, '}');
}

void api_settings(struct api_call *call)
{
	struct settings settings;
	struct config_errors errors = { 0 };
	struct api_text text;
	int error = settings_read(call->args->settings_path, &settings, &errors);

	config_errors_clear(&errors);
	if (error) {
		api_refuse(call, 503, "%s cannot be read: %s", call->args->settings_path, strerror(-error));
		return;
	}
	if (api_text_begin(call, &text)) {
		emit_all(&text.emit, &settings);
		api_text_end_json(call, &text, 200);
	}
	settings_fini(&settings);
}
