#include "tls/build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "base/text.h"
#include "tls/build_names.h"
#include "tls/offer.h"
#include "tls/pem.h"
#include "tls/vault_magic.h"

enum { DAY_S = 86400, SOON_DAYS = 14, MOST_TWICE = 5 };

struct build {
	const struct config *config;
	const struct tls_files *files;
	size_t next; /* of the files */
	int64_t now_s;
	struct vault_findings *findings;
	struct heap heap;
	SSL_CTX *trial;              /* to find out whether OpenSSL will take a pair */
	uint32_t listener;           /* the one that is being built */
	const struct tls_file *file; /* its certificate, for what is found out later */
	unsigned n_twice;
	size_t first_fact; /* of the listener */
};

/* --- what is wrong --------------------------------------------------------------------------------------------------------- */

static void say(struct build *build, bool warning, const struct tls_file *file, const char *format, ...) printf_like(4, 5);
static void say(struct build *build, bool warning, const struct tls_file *file, const char *format, ...)
{
	char setting[96], text[768];
	int line;
	const char *place = tls_file_place(build->config, file, &line);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	config_errors_add(warning ? &build->findings->warnings : &build->findings->errors, place, line,
	        tls_file_setting(file, setting, sizeof setting), "%s: %s", file->path, text);
}
#define wrong(build, file, ...) say(build, false, file, __VA_ARGS__)
#define warn(build, file, ...) say(build, true, file, __VA_ARGS__)

static const char *day_of(int64_t time_s, char *out, size_t size)
{
	time_t time = (time_t)time_s;
	struct tm tm;

	if (!gmtime_r(&time, &tm) || strftime(out, size, "%Y-%m-%d %H:%M UTC", &tm) == 0)
		(void)snprintf(out, size, "in a far time");
	return out;
}

static void say_unreadable(struct build *build, const struct tls_file *file)
{
	if (file->error == ENOENT || file->error == ENOTDIR)
		wrong(build, file, "there is no such file; write where it is");
	else if (file->error == EACCES || file->error == EPERM)
		wrong(build, file, "it cannot be read: %s; give the user that starts Aegis the right to, or run this as root",
		        strerror(file->error));
	else if (file->error == EISDIR)
		wrong(build, file, "it is no regular file");
	else if (file->error == ENODATA)
		wrong(build, file, "it is empty");
	else if (file->error == EFBIG)
		wrong(build, file, "it is longer than 16 MB");
	else
		wrong(build, file, "it cannot be read: %s", strerror(file->error));
}

/* The next file, where it is this one; else NULL: the settings do not name it. */
static const struct tls_file *take(struct build *build, enum file_role role, uint32_t owner, uint32_t item)
{
	const struct tls_file *file = build->next < build->files->n ? &build->files->files[build->next] : NULL;

	if (!file || file->role != role || file->owner != owner || file->item != item)
		return NULL;
	build->next++;
	if (file->error)
		say_unreadable(build, file);
	return file;
}

/* --- a pair ---------------------------------------------------------------------------------------------------------------- */

static enum vault_kind kind_of(EVP_PKEY *key)
{
	int id = EVP_PKEY_get_base_id(key);
	return id == EVP_PKEY_EC ? VAULT_ECDSA : id == EVP_PKEY_RSA || id == EVP_PKEY_RSA_PSS ? VAULT_RSA : VAULT_OTHER;
}

static void check_key_file(struct build *build, const struct tls_file *file)
{
	if ((file->mode & 07) != 0)
		wrong(build, file, "everybody on this machine may use this private key (mode %04o); chmod o= it, and think of a new key",
		        (unsigned)file->mode);
}

static void check_dates(struct build *build, const struct tls_file *file, X509 *leaf)
{
	int64_t from = pem_time(X509_get0_notBefore(leaf)), until = pem_time(X509_get0_notAfter(leaf));
	char day[64];

	if (until <= build->now_s)
		warn(build, file, "the certificate expired on %s; renew it", day_of(until, day, sizeof day));
	else if (until - build->now_s < SOON_DAYS * DAY_S)
		warn(build, file, "the certificate expires on %s; renew it", day_of(until, day, sizeof day));
	if (from > build->now_s)
		warn(build, file, "the certificate is not good before %s; is the clock right?", day_of(from, day, sizeof day));
}

/* Each certificate must be signed by the one that follows it. */
static void check_order(struct build *build, const struct tls_file *file, STACK_OF(X509) * certificates)
{
	for (int i = 0; i + 1 < sk_X509_num(certificates); i++) {
		X509 *one = sk_X509_value(certificates, i), *next = sk_X509_value(certificates, i + 1);
		if (X509_NAME_cmp(X509_get_issuer_name(one), X509_get_subject_name(next)) == 0)
			continue;
		wrong(build, file,
		        "certificate %d in it is not the one that signed certificate %d; write the server's own first, then each that "
		        "signed the one "
		        "before it",
		        i + 2, i + 1);
		return;
	}
}

static const char *why_refused(void)
{
	unsigned long error = ERR_peek_error();
	int reason = ERR_GET_REASON(error);

	if (ERR_GET_LIB(error) == ERR_LIB_X509 || reason == SSL_R_PRIVATE_KEY_MISMATCH)
		return "it is not the key of the certificate";
	if (reason == SSL_R_EE_KEY_TOO_SMALL || reason == SSL_R_CA_KEY_TOO_SMALL)
		return "a key of the certificate or of its chain is too short; use RSA with 2048 bits or ECDSA with P-256";
	if (reason == SSL_R_CA_MD_TOO_WEAK)
		return "the certificate or its chain is signed with a weak hash; use SHA-256";
	const char *text = ERR_reason_error_string(error);
	return text ? text : "OpenSSL does not take it";
}

/* Would a handshake take it? */
static bool is_taken(struct build *build, const struct tls_file *file, STACK_OF(X509) * certificates, EVP_PKEY *key)
{
	X509 *leaf = sk_X509_value(certificates, 0);
	STACK_OF(X509) *chain = sk_X509_dup(certificates);

	ensure(chain);
	(void)sk_X509_shift(chain);
	bool taken = SSL_CTX_use_cert_and_key(build->trial, leaf, key, chain, 1) == 1;
	if (!taken)
		wrong(build, file, "%s", why_refused());
	sk_X509_free(chain);
	ERR_clear_error();
	return taken;
}

static struct vault_span put_chain(struct build *build, STACK_OF(X509) * certificates, int from)
{
	struct vault_span span = { .offset = build->heap.length };
	int total = 0;

	for (int i = from; i < sk_X509_num(certificates); i++)
		total += i2d_X509(sk_X509_value(certificates, i), NULL);
	span.offset = heap_take(&build->heap, (size_t)total);
	unsigned char *at = heap_at(&build->heap, span.offset);
	for (int i = from; i < sk_X509_num(certificates); i++)
		(void)i2d_X509(sk_X509_value(certificates, i), &at);
	span.length = (uint64_t)total;
	return span;
}

static struct vault_span put_one(struct build *build, X509 *cert)
{
	unsigned char *der = NULL;
	int length = i2d_X509(cert, &der);

	ensure(length > 0);
	struct vault_span span = heap_put(&build->heap, der, (size_t)length);
	OPENSSL_free(der);
	return span;
}

/* A certificate with its key. False when it is of no use; then it was told why. */
static bool build_pair(struct build *build, const struct tls_file *cert, const struct tls_file *key_file, STACK_OF(X509) * certificates,
        struct vault_certificate *out)
{
	X509 *leaf = sk_X509_value(certificates, 0);
	const char *why;

	check_dates(build, cert, leaf);
	check_order(build, cert, certificates);
	out->not_before = pem_time(X509_get0_notBefore(leaf));
	out->not_after = pem_time(X509_get0_notAfter(leaf));
	if (!key_file || key_file->error)
		return false;
	check_key_file(build, key_file);
	EVP_PKEY *key = pem_key(key_file->bytes, key_file->length, leaf, &why);
	if (!key) {
		wrong(build, key_file, "%s", why);
		return false;
	}
	bool taken = is_taken(build, key_file, certificates, key);
	out->kind = kind_of(key);
	EVP_PKEY_free(key);
	out->leaf = put_one(build, leaf);
	out->chain = put_chain(build, certificates, 1);
	out->key = heap_put(&build->heap, key_file->bytes, key_file->length);
	return taken;
}

static void build_ocsp(struct build *build, const struct tls_file *file, STACK_OF(X509) * certificates, struct vault_certificate *out)
{
	const char *why = NULL;
	char day[64];

	if (!file || file->error)
		return;
	int64_t end = pem_ocsp(file->bytes, file->length, sk_X509_value(certificates, 0),
	        sk_X509_num(certificates) > 1 ? sk_X509_value(certificates, 1) : NULL, &why);
	if (end < 0) {
		wrong(build, file, "%s; write what the authority's OCSP server answered for this certificate, in DER", why);
		return;
	}
	if (end <= build->now_s)
		warn(build, file, "the OCSP answer ended on %s, and is not passed on; fetch a new one", day_of(end, day, sizeof day));
	out->ocsp = heap_put(&build->heap, file->bytes, file->length);
	out->ocsp_until = end;
}

static void tell_fact(struct build *build, uint32_t item, const struct vault_certificate *certificate, const char *label)
{
	struct vault_findings *findings = build->findings;
	struct vault_fact *fact = &findings->facts[findings->n_facts++];

	*fact = (struct vault_fact){
		.listener = build->listener, .item = item, .not_before = certificate->not_before, .not_after = certificate->not_after
	};
	(void)text_copy(fact->label, sizeof fact->label, label);
}

static void build_certificate(struct build *build, uint32_t item, struct own_names *names, struct vault_certificate *out)
{
	const struct tls_file *cert = take(build, FILE_CERT, build->listener, item);
	const struct tls_file *key = take(build, FILE_KEY, build->listener, item);
	const struct tls_file *ocsp = take(build, FILE_OCSP, build->listener, item);
	const char *why = NULL;
	char label[VAULT_NAME_SIZE];

	if (!cert || cert->error)
		return;
	STACK_OF(X509) *certificates = pem_certificates(cert->bytes, cert->length, &why);
	if (!certificates) {
		wrong(build, cert, "%s", why);
		return;
	}
	(void)build_pair(build, cert, key, certificates, out);
	build_ocsp(build, ocsp, certificates, out);
	(void)own_names_gather(
	        names, &build->heap, sk_X509_value(certificates, 0), item + 1, (enum vault_kind)out->kind, label, sizeof label);
	out->label = heap_put(&build->heap, label, strlen(label));
	tell_fact(build, item, out, label);
	sk_X509_pop_free(certificates, X509_free);
}

/* --- who may vouch for whom ------------------------------------------------------------------------------------------------ */

static struct vault_span build_ca(struct build *build, const struct tls_file *file)
{
	const char *why = NULL;
	STACK_OF(X509) *certificates = file && !file->error ? pem_certificates(file->bytes, file->length, &why) : NULL;

	if (why)
		wrong(build, file, "%s", why);
	if (!certificates)
		return (struct vault_span){ 0 };
	struct vault_span span = put_chain(build, certificates, 0);
	sk_X509_pop_free(certificates, X509_free);
	return span;
}

static struct vault_span build_crls(struct build *build, const struct tls_file *file)
{
	const char *why = NULL;
	STACK_OF(X509_CRL) *crls = file && !file->error ? pem_crls(file->bytes, file->length, &why) : NULL;
	char day[64];

	if (why)
		wrong(build, file, "%s", why);
	for (int i = 0; i < sk_X509_CRL_num(crls); i++) {
		int64_t end = pem_time(X509_CRL_get0_nextUpdate(sk_X509_CRL_value(crls, i)));
		if (end <= build->now_s)
			warn(build, file, "a revocation list in it ended on %s: nobody is let in until there is a new one",
			        day_of(end, day, sizeof day));
	}
	if (!crls)
		return (struct vault_span){ 0 };
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return heap_put(&build->heap, file->bytes, file->length); /* PEM, as it is */
}

static void digest_spans(struct build *build, const struct vault_span *a, const struct vault_span *b, unsigned char *out)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	ensure(md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
	        EVP_DigestUpdate(md, heap_at(&build->heap, a->offset), a->length) == 1 &&
	        EVP_DigestUpdate(md, heap_at(&build->heap, b->offset), b->length) == 1 && EVP_DigestFinal_ex(md, out, NULL) == 1);
	EVP_MD_CTX_free(md);
}

/* --- a listener, an upstream ----------------------------------------------------------------------------------------------- */

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

static void say_twice(void *arg, const char *name, size_t length, uint32_t first, uint32_t second)
{
	struct build *build = arg;

	(void)second;
	if (build->n_twice++ < MOST_TWICE)
		warn(build, build->file,
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
	build->file = build->next < build->files->n ? &build->files->files[build->next] : NULL;
	for (size_t i = 0; i < n; i++)
		build_certificate(build, (uint32_t)i, &names, &certificates[i]);
	struct vault_span span = heap_put(&build->heap, certificates, n * sizeof *certificates);
	struct vault_span ca = build_ca(build, take(build, FILE_CLIENT_CA, index, 0));
	struct vault_span crls = build_crls(build, take(build, FILE_LISTENER_CRL, index, 0));
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
	struct vault_span ca = build_ca(build, take(build, FILE_CA, index, 0));
	struct vault_span crls = build_crls(build, take(build, FILE_UPSTREAM_CRL, index, 0));
	const struct tls_file *cert = take(build, FILE_OWN_CERT, index, 0), *key = take(build, FILE_OWN_KEY, index, 0);
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

void vault_findings_clear(struct vault_findings *findings)
{
	config_errors_clear(&findings->errors);
	config_errors_clear(&findings->warnings);
	free(findings->facts);
	*findings = (struct vault_findings){ 0 };
}

int vault_check(const struct config *config, int64_t now_s, struct vault_findings *findings)
{
	struct tls_files files;

	if (!vault_is_needed(config))
		return 0;
	int error = tls_files_read(config, &files);
	if (error)
		return error;
	error = vault_build(config, &files, now_s, -1, findings);
	tls_files_free(&files);
	return error;
}
