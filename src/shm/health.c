/* The verdict: bits 0-7 state, bits 32-63 against. The last check: bits 0-7 result, bits 8-31 detail, bits 32-63 microseconds. */
#include "shm/health.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { AGAINST_SHIFT = 32, DETAIL_SHIFT = 8, DETAIL_MAX = (1 << 24) - 1, LATENCY_SHIFT = 32 };

static const struct {
	const char *text;
	enum health_effect effect;
} results[] = {
#define X(id, effect, text) [HEALTH_RESULT_##id] = { text, HEALTH_##effect },
	HEALTH_RESULTS(X)
#undef X
};
static_assert(ARRAY_LEN(results) == N_HEALTH_RESULTS, "one row per result");
static_assert(N_HEALTH_RESULTS <= 1 << DETAIL_SHIFT, "a result has eight bits");

const char *health_state_name(enum health_state state)
{
	static const char *const names[] = {
#define X(id, name) [HEALTH_##id] = name,
		HEALTH_STATES(X)
#undef X
	};
	return state < ARRAY_LEN(names) ? names[state] : "unknown";
}

const char *health_result_text(enum health_result result)
{
	return result < N_HEALTH_RESULTS ? results[result].text : "unknown";
}

/* Those that servers send to clients. */
static const char *alert_name(uint32_t alert)
{
	static const char *const names[] = { [10] = "unexpected message",
		[20] = "bad record mac",
		[22] = "record overflow",
		[40] = "handshake failure",
		[42] = "bad certificate",
		[43] = "unsupported certificate",
		[44] = "certificate revoked",
		[45] = "certificate expired",
		[46] = "certificate unknown",
		[47] = "illegal parameter",
		[48] = "unknown ca",
		[49] = "access denied",
		[50] = "decode error",
		[51] = "decrypt error",
		[70] = "protocol version",
		[71] = "insufficient security",
		[80] = "internal error",
		[86] = "inappropriate fallback",
		[90] = "user canceled",
		[109] = "missing extension",
		[110] = "unsupported extension",
		[112] = "unrecognized name",
		[113] = "bad certificate status response",
		[115] = "unknown psk identity",
		[116] = "certificate required",
		[120] = "no application protocol" };
	return alert < ARRAY_LEN(names) ? names[alert] : NULL;
}

static void tls_why(uint32_t detail, char *out, size_t size)
{
	static const char *const texts[] = {
#define X(id, text) [HEALTH_TLS_##id] = (text),
		HEALTH_TLS_FAULTS(X)
#undef X
	};
	if (detail < ARRAY_LEN(texts)) {
		(void)snprintf(out, size, "%s", texts[detail]);
		return;
	}
	const char *name = detail >= HEALTH_TLS_ALERT ? alert_name(detail - HEALTH_TLS_ALERT) : NULL;
	if (name)
		(void)snprintf(out, size, "alert: %s", name);
	else if (detail >= HEALTH_TLS_ALERT)
		(void)snprintf(out, size, "alert %u", (unsigned)(detail - HEALTH_TLS_ALERT));
}

const char *health_check_why(const struct health_check *check, char *out, size_t size)
{
	out[0] = '\0';
	if (check->detail == 0)
		return out;
	if (check->result == HEALTH_RESULT_STATUS)
		(void)snprintf(out, size, "%u", (unsigned)check->detail);
	else if (check->result == HEALTH_RESULT_UNREACHABLE)
		(void)snprintf(out, size, "%s", strerror((int)check->detail));
	else if (check->result == HEALTH_RESULT_TLS)
		tls_why(check->detail, out, size);
	return out;
}

enum health_effect health_result_effect(enum health_result result)
{
	return result < N_HEALTH_RESULTS ? results[result].effect : HEALTH_JUDGES_NOTHING;
}

struct health_verdict health_judge(struct health_verdict verdict, const struct health_limits *limits, bool ok)
{
	const enum health_state told = ok ? HEALTH_UP : HEALTH_DOWN;
	const uint32_t enough = ok ? limits->rise : limits->fall;

	if (verdict.state == told)
		return (struct health_verdict){ .state = told };
	if (verdict.state == HEALTH_UNKNOWN || enough <= 1 || verdict.against >= enough - 1)
		return (struct health_verdict){ .state = told };
	return (struct health_verdict){ .state = verdict.state, .against = verdict.against + 1 };
}

struct health_verdict health_verdict(const struct health *health)
{
	uint64_t word = atomic_load_explicit(&health->verdict, memory_order_acquire);
	return (struct health_verdict){ .state = (enum health_state)(word & 0xff), .against = (uint32_t)(word >> AGAINST_SHIFT) };
}

enum health_state health_state(const struct health *health)
{
	return health_verdict(health).state;
}

void health_last(const struct health *health, struct health_check *out)
{
	uint64_t word = atomic_load_explicit(&health->last, memory_order_relaxed);
	*out = (struct health_check){ .result = (enum health_result)(word & 0xff),
		.detail = word >> DETAIL_SHIFT & DETAIL_MAX,
		.latency_ns = (word >> LATENCY_SHIFT) * NS_PER_US };
}

/* One word, so that no reader sees halves of two checks. */
static void note_last(struct health *health, const struct health_check *check, uint64_t now_ns)
{
	uint64_t detail = check->detail < DETAIL_MAX ? check->detail : DETAIL_MAX;
	uint64_t latency_us = check->latency_ns / NS_PER_US;
	uint64_t word =
	        (uint64_t)check->result | detail << DETAIL_SHIFT | (latency_us < UINT32_MAX ? latency_us : UINT32_MAX) << LATENCY_SHIFT;
	atomic_store_explicit(&health->last, word, memory_order_relaxed);
	atomic_store_explicit(&health->checked_ns, now_ns, memory_order_relaxed);
}

static struct health_verdict verdict_after(
        struct health_verdict verdict, const struct health_limits *limits, const struct health_check *check)
{
	const enum health_effect effect = health_result_effect(check->result);
	return effect == HEALTH_JUDGES_NOTHING ? verdict : health_judge(verdict, limits, effect == HEALTH_SUCCEEDED);
}

enum health_state health_would_become(const struct health *health, const struct health_limits *limits, const struct health_check *check)
{
	return verdict_after(health_verdict(health), limits, check).state;
}

void health_note(struct health *health, const struct health_limits *limits, const struct health_check *check, uint64_t now_ns)
{
	const struct health_verdict before = health_verdict(health), after = verdict_after(before, limits, check);
	const enum health_effect effect = health_result_effect(check->result);

	note_last(health, check, now_ns);
	if (effect != HEALTH_JUDGES_NOTHING)
		atomic_fetch_add_explicit(effect == HEALTH_SUCCEEDED ? &health->passed : &health->failed, 1, memory_order_relaxed);
	if (after.state != before.state)
		atomic_store_explicit(&health->changed_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&health->verdict, (uint64_t)after.state | (uint64_t)after.against << AGAINST_SHIFT, memory_order_release);
}

void health_forget(struct health *health)
{
	atomic_store_explicit(&health->verdict, 0, memory_order_release);
}
