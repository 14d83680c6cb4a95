#include "tls/build.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/text.h"
#include "tls/build_own.h"
#include "tls/offer.h"
#include "tls/pem.h"
#include "tls/vault_magic.h"

enum { MOST_TWICE = 5 };

static void digest_spans(struct build *build, const struct vault_span *a, const struct vault_span *b, unsigned char *out)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	ensure(md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
	        EVP_DigestUpdate(md, heap_at(&build->heap, a->offset), a->length) == 1 &&
	        EVP_DigestUpdate(md, heap_at(&build->heap, b->offset), b->length) == 1 && EVP_DigestFinal_ex(md, out, NULL) == 1);
	EVP_MD_CTX_free(md);
}

static void check_offer(struct build *build, const struct tls_offer_config *offer, bool server, const char *file, int line, uint32_t index)
{
	char why[320], path[64];
	SSL_CTX *ctx = NULL;
	int error = offer_context(offer, server, &ctx, why, sizeof why);

	SSL_CTX_free(ctx);
	if (!error)
		return;
	(void)snprintf(path, sizeof path, "%s[%u].tls", server ? "listeners" : "upstreams", index);
	config_errors_add(&build->findings->errors, file, line, path, "%s", why);
}

static const struct tls_file *certificate_file(const struct build *build, uint32_t item)
{
	const struct tls_file *file = build->files->files;

	while (file->role != FILE_CERT || file->owner != build->listener || file->item != item)
		file++; /* its names were read from it */
	return file;
}

static void say_twice(void *arg, const char *name, size_t length, uint32_t first, uint32_t second)
{
	struct build *build = arg;

	if (build->n_twice++ < MOST_TWICE)
		warn(build, certificate_file(build, second - 1),
		        "\"%.*s\" is a name of certificates[%u], too, which has a key of the same kind and stands before: that one is used",
		        (int)length, name, first - 1);
}

static const struct vault_listener *listener_of(const struct build *build, uint64_t at)
{
	return heap_at(&build->heap, at);
}

/* Is the name that of this certificate alone? */
static bool is_alone(const struct build *build, const struct vault_listener *listener, const struct vault_fact *fact)
{
	const struct vault_name *table = heap_at(&build->heap, listener->names.offset);
	uint64_t hash;
	size_t at = vault_place(table, listener->names.length, build->heap.bytes, fact->label, strlen(fact->label), &hash);

	if (table[at].name.length == 0)
		return false;
	for (size_t kind = 0; kind < N_VAULT_KINDS; kind++)
		if (table[at].certificate[kind] != 0 && table[at].certificate[kind] != fact->item + 1)
			return false;
	return true;
}

/* Metrics tell certificates apart by their names. */
static void name_facts(struct build *build, const struct vault_listener *listener)
{
	for (size_t i = build->first_fact; i < build->findings->n_facts; i++) {
		struct vault_fact *fact = &build->findings->facts[i];
		char name[VAULT_LABEL_SIZE - 12];
		if (is_alone(build, listener, fact))
			continue;
		(void)text_copy(name, sizeof name, fact->label);
		(void)snprintf(fact->label, sizeof fact->label, "%s#%u", name, fact->item + 1);
	}
}

static void build_listener(struct build *build, uint32_t index, uint64_t at)
{
	const struct listener_tls_config *tls = &build->config->listeners[index].tls;
	struct own_names names = { 0 };
	size_t n = tls->n_certificates;

	build->listener = index;
	build->first_fact = build->findings->n_facts;
	check_offer(build, &tls->offer, true, tls->file, tls->line, index);
	struct vault_certificate *certificates = calloc(n, sizeof *certificates);
	ensure(certificates || n == 0);
	for (size_t i = 0; i < n; i++)
		build_certificate(build, (uint32_t)i, &names, &certificates[i]);
	struct vault_span span = heap_put(&build->heap, certificates, n * sizeof *certificates);
	struct vault_span ca = build_ca(build, build_take(build, FILE_CLIENT_CA, index, 0));
	struct vault_span crls = build_crls(build, build_take(build, FILE_LISTENER_CRL, index, 0));
	struct vault_listener *listener = heap_at(&build->heap, at);
	listener->certificates = (struct vault_span){ .offset = span.offset, .length = n };
	listener->client_ca = ca;
	listener->crls = crls;
	digest_spans(build, &ca, &crls, listener->trust);
	own_names_write(&names, &build->heap, at, say_twice, build);
	name_facts(build, listener_of(build, at));
	own_names_free(&names);
	free(certificates);
}

static void build_upstream(struct build *build, uint32_t index, uint64_t at)
{
	const struct upstream_tls_config *tls = &build->config->upstreams[index].tls;
	struct vault_certificate own = { 0 };
	const char *why = NULL;

	check_offer(build, &tls->offer, false, tls->file, tls->line, index);
	struct vault_span ca = build_ca(build, build_take(build, FILE_CA, index, 0));
	struct vault_span crls = build_crls(build, build_take(build, FILE_UPSTREAM_CRL, index, 0));
	const struct tls_file *cert = build_take(build, FILE_OWN_CERT, index, 0), *key = build_take(build, FILE_OWN_KEY, index, 0);
	STACK_OF(X509) *certificates = cert && !cert->error ? pem_certificates(cert->bytes, cert->length, &why) : NULL;
	if (why)
		wrong(build, cert, "%s", why);
	bool has_own = certificates && build_pair(build, cert, key, certificates, &own);
	struct vault_span span = heap_put(&build->heap, &own, sizeof own);
	sk_X509_pop_free(certificates, X509_free);
	*(struct vault_upstream *)heap_at(&build->heap, at) =
	        (struct vault_upstream){ .ca = ca, .crls = crls, .own = { .offset = span.offset, .length = has_own } };
}

/* --- all ------------------------------------------------------------------------------------------------------------------- */

static void digest_files(const struct tls_files *files, unsigned char *out)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	ensure(md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1);
	for (size_t i = 0; i < files->n; i++) {
		const struct tls_file *file = &files->files[i];
		const uint64_t head[] = { file->role, file->owner, file->item, file->length };
		ensure(EVP_DigestUpdate(md, head, sizeof head) == 1);
		ensure(file->length == 0 || EVP_DigestUpdate(md, file->bytes, file->length) == 1);
	}
	ensure(EVP_DigestFinal_ex(md, out, NULL) == 1);
	EVP_MD_CTX_free(md);
}

static void build_all(struct build *build)
{
	const struct config *config = build->config;
	uint64_t header = heap_take(&build->heap, sizeof(struct vault_header));
	uint64_t listeners = heap_take(&build->heap, config->n_listeners * sizeof(struct vault_listener));
	uint64_t upstreams = heap_take(&build->heap, config->n_upstreams * sizeof(struct vault_upstream));

	ensure(header == 0);
	for (uint32_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].tls.enabled && config->listeners[i].protocol == PROTOCOL_TCP)
			build_listener(build, i, listeners + i * sizeof(struct vault_listener));
	for (uint32_t i = 0; i < config->n_upstreams; i++)
		if (upstream_has_tls(&config->upstreams[i]))
			build_upstream(build, i, upstreams + i * sizeof(struct vault_upstream));
	digest_files(build->files, build->findings->digest);
	struct vault_header *head = heap_at(&build->heap, header);
	*head = (struct vault_header){ .magic = VAULT_MAGIC,
		.size = build->heap.length,
		.listeners = { .offset = listeners, .length = config->n_listeners },
		.upstreams = { .offset = upstreams, .length = config->n_upstreams } };
	memcpy(head->digest, build->findings->digest, sizeof head->digest);
}

int vault_make_fd(void)
{
	int fd = memfd_create("aegis certificates", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

static size_t count_certificates(const struct config *config)
{
	size_t n = 0;

	for (size_t i = 0; i < config->n_listeners; i++)
		n += config->listeners[i].tls.n_certificates;
	return n;
}

int vault_build(const struct config *config, const struct tls_files *files, int64_t now_s, int fd, struct vault_findings *findings)
{
	struct build build = { .config = config, .files = files, .now_s = now_s, .findings = findings, .trial = SSL_CTX_new(TLS_method()) };
	int error = 0;

	free(findings->facts);
	findings->n_facts = 0;
	findings->facts = calloc(count_certificates(config) + 1, sizeof *findings->facts);
	if (!build.trial || !findings->facts)
		error = -ENOMEM;
	else
		build_all(&build);
	if (!error && fd >= 0 && findings->errors.count == 0)
		error = heap_seal(&build.heap, fd);
	heap_free(&build.heap);
	SSL_CTX_free(build.trial);
	ERR_clear_error();
	return error;
}

bool vault_is_needed(const struct config *config)
{
	for (size_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].tls.enabled && config->listeners[i].protocol == PROTOCOL_TCP)
			return true;
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (upstream_has_tls(&config->upstreams[i]))
			return true;
	return false;
}

static void read_patiently(const struct config *config, struct tls_file *file, struct file_at *at)
{
	char setting[128];
	int line = 0;
	const char *place = tls_file_place(config, file, &line);

	file_at_begin(
	        at, "%s:%d: %s: %s", place ? place : "command line", line, tls_file_setting(file, setting, sizeof setting), file->path);
	tls_file_read(file);
	file_at_end(at);
}

int vault_check(const struct config *config, int64_t now_s, struct file_at *at, struct vault_findings *findings)
{
	struct tls_files files;

	if (!vault_is_needed(config))
		return 0;
	int error = tls_files_list(config, &files);
	if (error)
		return error;
	for (size_t i = 0; i < files.n; i++)
		read_patiently(config, &files.files[i], at);
	error = vault_build(config, &files, now_s, -1, findings);
	tls_files_free(&files);
	return error;
}
