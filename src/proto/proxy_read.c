#include "proto/proxy_read.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/crc32c.h"

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21, UNIX_PATH = PROXY_V2_UNIX / 2, UNIQUE_ID_MOST = 128, SSL_HEAD = 5 };
enum { FAMILY_UNSPEC = 0x00, FAMILY_INET = 0x10, FAMILY_INET6 = 0x20, FAMILY_UNIX = 0x30 };
enum { OF_STREAM = 0x01, OF_DATAGRAMS = 0x02 };

static const char v1_signature[] = "PROXY ";

static enum proxy_verdict bad(const char *what, const char **why)
{
	*why = what;
	return PROXY_BAD;
}

static bool begins(const char *bytes, size_t count, const char *with, size_t length)
{
	return memcmp(bytes, with, count < length ? count : length) == 0;
}

bool proxy_may_begin(const void *bytes, size_t count)
{
	return begins(bytes, count, v1_signature, strlen(v1_signature)) ||
	       begins(bytes, count, PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_BYTES);
}

/* --- version 1 ----------------------------------------------------------------------------------------------------------------- */

/* The words behind the family, which end with a NUL in place of CRLF. */
struct words {
	char *at;
};

/* The next one; NULL where two spaces follow each other, or nothing is left. */
static char *next_word(struct words *words)
{
	char *word = words->at;
	if (!word || *word == '\0' || *word == ' ')
		return NULL;
	char *end = strchr(word, ' ');
	if (end)
		*end = '\0';
	words->at = end ? end + 1 : NULL;
	return word;
}

/* A decimal number without leading zeros; -1 where it is none, or more than most. */
static int32_t number(const char *digits, size_t length, int32_t most)
{
	int32_t value = 0;
	if (length == 0 || length > 5 || (length > 1 && digits[0] == '0'))
		return -1;
	for (size_t i = 0; i < length; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return -1;
		value = 10 * value + (digits[i] - '0');
	}
	return value <= most ? value : -1;
}

static bool read_inet(const char *word, struct in_addr *out)
{
	uint8_t octets[4];
	for (size_t i = 0; i < sizeof octets; i++) {
		size_t length = strcspn(word, ".");
		int32_t octet = number(word, length, UINT8_MAX);
		if (octet < 0 || (word[length] == '.') != (i + 1 < sizeof octets))
			return false;
		octets[i] = (uint8_t)octet;
		word += length + (word[length] == '.');
	}
	memcpy(out, octets, sizeof octets);
	return true;
}

static bool read_address(const char *word, sa_family_t family, struct addr *out)
{
	*out = (struct addr){ .length = family == AF_INET ? sizeof out->in : sizeof out->in6 };
	out->sa.sa_family = family;
	if (!word)
		return false;
	return family == AF_INET ? read_inet(word, &out->in.sin_addr) : inet_pton(AF_INET6, word, &out->in6.sin6_addr) == 1;
}

static bool read_port(const char *word, struct addr *out)
{
	int32_t port = word ? number(word, strlen(word), UINT16_MAX) : -1;
	if (port >= 0)
		addr_set_port(out, (uint16_t)port);
	return port >= 0;
}

/* What stands behind the family, without CRLF. */
static bool read_words(char *line, sa_family_t family, struct proxy_ends *out, const char **why)
{
	struct words words = { .at = line };
	*out = (struct proxy_ends){ .known = true };
	if (!read_address(next_word(&words), family, &out->source) || !read_address(next_word(&words), family, &out->destination))
		*why = "an address is none, or of another family";
	else if (!read_port(next_word(&words), &out->source) || !read_port(next_word(&words), &out->destination))
		*why = "a port is none";
	else if (words.at)
		*why = "there are words behind the ports";
	else
		return true;
	return false;
}

enum { FAMILY_WORD = sizeof "PROXY TCP4 " - 1, UNKNOWN_WORD = sizeof "PROXY UNKNOWN" - 1 };

static sa_family_t family_of_line(const char *line, size_t count)
{
	if (begins(line, count, "PROXY TCP4 ", FAMILY_WORD))
		return AF_INET;
	return begins(line, count, "PROXY TCP6 ", FAMILY_WORD) ? AF_INET6 : AF_UNSPEC;
}

/* A line without its end, which may still come. */
static enum proxy_verdict read_beginning(const char *line, size_t count, const char **why)
{
	bool unknown = begins(line, count, "PROXY UNKNOWN", UNKNOWN_WORD);
	if (!unknown && family_of_line(line, count) == AF_UNSPEC)
		return bad("the family is neither TCP4, TCP6 nor UNKNOWN", why);
	if (unknown && count > UNKNOWN_WORD && line[UNKNOWN_WORD] != ' ' && line[UNKNOWN_WORD] != '\r')
		return bad("the family is neither TCP4, TCP6 nor UNKNOWN", why);
	for (size_t i = FAMILY_WORD; !unknown && i < count; i++)
		if (!memchr("0123456789abcdefABCDEF:. ", line[i], 25) && !(line[i] == '\r' && i + 1 == count))
			return bad("what stands behind the family is neither addresses nor ports", why);
	return count >= PROXY_V1_MOST ? bad("the line has no end within 107 bytes", why) : PROXY_NEED_MORE;
}

static const char *find_end(const char *line, size_t count)
{
	return memmem(line, count < PROXY_V1_MOST ? count : PROXY_V1_MOST, "\r\n", 2);
}

static enum proxy_verdict read_v1(const char *line, size_t count, bool datagrams, struct proxy_header *out, const char **why)
{
	char words[PROXY_V1_MOST];
	struct proxy_ends ends = { .known = false };
	const char *end = find_end(line, count);
	size_t length = end ? (size_t)(end - line) : count;
	enum proxy_verdict verdict = read_beginning(line, length < PROXY_V1_MOST ? length : PROXY_V1_MOST, why);
	if (verdict == PROXY_BAD || !end)
		return verdict;
	sa_family_t family = family_of_line(line, length);
	if (length < FAMILY_WORD)
		return bad("the family is neither TCP4, TCP6 nor UNKNOWN", why);
	if (family != AF_UNSPEC) {
		memcpy(words, line + FAMILY_WORD, length - FAMILY_WORD);
		words[length - FAMILY_WORD] = '\0';
		if (datagrams)
			return bad("it is about a stream", why);
		if (!read_words(words, family, &ends, why))
			return PROXY_BAD;
	} else if (length < UNKNOWN_WORD) {
		return bad("the family is neither TCP4, TCP6 nor UNKNOWN", why);
	}
	*out = (struct proxy_header){ .version = 1, .length = length + 2, .ends = ends };
	return PROXY_GOOD;
}

/* --- version 2: TLVs ----------------------------------------------------------------------------------------------------------- */

bool proxy_next_tlv(const uint8_t **at, const uint8_t *end, struct proxy_tlv *out)
{
	size_t left = (size_t)(end - *at);
	if (left < PROXY_TLV_HEAD)
		return false;
	uint16_t length = (uint16_t)((*at)[1] << 8 | (*at)[2]);
	if (left - PROXY_TLV_HEAD < length)
		return false;
	*out = (struct proxy_tlv){ .type = (*at)[0], .bytes = *at + PROXY_TLV_HEAD, .length = length };
	*at += PROXY_TLV_HEAD + length;
	return true;
}

bool proxy_find_tlv(const struct proxy_header *header, uint8_t type, struct proxy_tlv *out)
{
	const uint8_t *at = header->tlvs;
	struct proxy_tlv tlv;
	while (header->tlvs && proxy_next_tlv(&at, header->tlvs + header->tlvs_length, &tlv))
		if (tlv.type == type) {
			*out = tlv;
			return true;
		}
	return false;
}

bool proxy_read_ssl(const struct proxy_tlv *tlv, struct proxy_ssl *out)
{
	const uint8_t *bytes = tlv->bytes, *at = bytes + SSL_HEAD, *end = bytes + tlv->length;
	struct proxy_tlv inner;
	if (tlv->length < SSL_HEAD)
		return false;
	bool has_certificate = bytes[0] & (PROXY_SSL_CERT_CONN | PROXY_SSL_CERT_SESS), good = !(bytes[1] | bytes[2] | bytes[3] | bytes[4]);
	*out = (struct proxy_ssl){ .flags = bytes[0], .verified = has_certificate && good, .tlvs = at, .end = end };
	while (proxy_next_tlv(&at, end, &inner)) {
	}
	return at == end;
}

static bool is_printable(const struct proxy_tlv *tlv)
{
	const uint8_t *bytes = tlv->bytes;
	for (size_t i = 0; i < tlv->length; i++)
		if (bytes[i] <= 0x20 || bytes[i] == 0x7f)
			return false;
	return true;
}

/* Of all with zeros in its own place. */
static bool is_check_sum(const uint8_t *header, size_t length, const struct proxy_tlv *tlv)
{
	static const uint8_t zeros[4];
	const uint8_t *place = tlv->bytes, *behind = place + sizeof zeros;
	uint32_t told, sum = crc32c(0, header, (size_t)(place - header));
	memcpy(&told, place, sizeof told);
	sum = crc32c(sum, zeros, sizeof zeros);
	return crc32c(sum, behind, (size_t)(header + length - behind)) == ntohl(told);
}

/* NULL, or what is wrong with it. */
static const char *wrong_with(const struct proxy_tlv *tlv)
{
	struct proxy_ssl ssl;
	switch (tlv->type) {
	case PROXY_TLV_CRC32C:
		return tlv->length == sizeof(uint32_t) ? NULL : "the check sum has not 4 bytes";
	case PROXY_TLV_UNIQUE_ID:
		return tlv->length <= UNIQUE_ID_MOST ? NULL : "the unique id has more than 128 bytes";
	case PROXY_TLV_SSL:
		return proxy_read_ssl(tlv, &ssl) ? NULL : "the TLV about TLS is malformed";
	case PROXY_TLV_AUTHORITY:
		return is_printable(tlv) ? NULL : "the authority has spaces or control characters";
	case PROXY_TLV_NETNS:
		return is_printable(tlv) ? NULL : "the network namespace has spaces or control characters";
	default:
		return NULL;
	}
}

/* Zeros up to the end are TLVs without a meaning and a value, of which the last one need not be whole. */
static bool is_padding(const uint8_t *at, const uint8_t *end, const struct proxy_tlv *last)
{
	bool zeros = last->bytes && last->type == 0 && last->length == 0;
	for (; at < end; at++)
		zeros = zeros && *at == 0;
	return zeros;
}

/* What is well-formed of them, in *length; false with *why. */
static bool check_tlvs(const uint8_t *header, const uint8_t *end, const uint8_t *at, size_t *length, const char **why)
{
	const uint8_t *start = at;
	struct proxy_tlv tlv = { .bytes = NULL };
	bool summed = false;
	while (proxy_next_tlv(&at, end, &tlv)) {
		bool is_sum = tlv.type == PROXY_TLV_CRC32C;
		*why = wrong_with(&tlv);
		if (!*why && is_sum && summed)
			*why = "there are two check sums";
		if (!*why && is_sum && !is_check_sum(header, (size_t)(end - header), &tlv))
			*why = "the check sum is wrong";
		if (*why)
			return false;
		summed |= is_sum;
	}
	*length = (size_t)(at - start);
	*why = "a TLV is longer than its place";
	return at == end || is_padding(at, end, &tlv);
}

/* --- version 2 ----------------------------------------------------------------------------------------------------------------- */

/* How long the addresses of a family are, of a kind of transport that the listener takes; -1 = there is none such. */
static int32_t addresses_length(uint8_t family, bool datagrams)
{
	uint8_t transport = datagrams ? OF_DATAGRAMS : OF_STREAM;
	if (family == FAMILY_UNSPEC)
		return 0;
	if (family == (FAMILY_INET | transport))
		return PROXY_V2_INET;
	if (family == (FAMILY_INET6 | transport))
		return PROXY_V2_INET6;
	return family == (FAMILY_UNIX | transport) ? PROXY_V2_UNIX : -1;
}

static void get_inet(const uint8_t *at, bool wide, struct addr *source, struct addr *destination)
{
	struct addr *both[] = { source, destination };
	size_t bytes = wide ? sizeof(struct in6_addr) : sizeof(struct in_addr);
	for (size_t i = 0; i < 2; i++) {
		const uint8_t *port = at + 2 * bytes + 2 * i;
		*both[i] = (struct addr){ .length = wide ? sizeof both[i]->in6 : sizeof both[i]->in };
		both[i]->sa.sa_family = wide ? AF_INET6 : AF_INET;
		memcpy(wide ? (void *)&both[i]->in6.sin6_addr : (void *)&both[i]->in.sin_addr, at + bytes * i, bytes);
		addr_set_port(both[i], (uint16_t)(port[0] << 8 | port[1]));
	}
}

static void get_path(const uint8_t *at, struct addr *out)
{
	size_t length = UNIX_PATH;
	while (length > 0 && at[length - 1] == 0)
		length--;
	length += length > 0 && length < UNIX_PATH && at[0] != 0; /* the NUL of a path, which an abstract name has not */
	*out = (struct addr){ .length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length) };
	out->un.sun_family = AF_UNIX;
	memcpy(out->un.sun_path, at, length);
}

static struct proxy_ends get_ends(const uint8_t *header, bool datagrams)
{
	uint8_t family = header[13] & 0xf0;
	struct proxy_ends ends = { .known = header[12] == COMMAND_PROXY && family != FAMILY_UNSPEC, .datagrams = datagrams };
	if (!ends.known)
		return (struct proxy_ends){ .known = false };
	if (family == FAMILY_UNIX) {
		get_path(header + PROXY_V2_HEAD, &ends.source);
		get_path(header + PROXY_V2_HEAD + UNIX_PATH, &ends.destination);
	} else {
		get_inet(header + PROXY_V2_HEAD, family == FAMILY_INET6, &ends.source, &ends.destination);
	}
	return ends;
}

/* The first 16 bytes, as far as they are there. */
static enum proxy_verdict read_v2_head(const uint8_t *header, size_t count, bool datagrams, const char **why)
{
	bool local = count > 12 && header[12] == COMMAND_LOCAL;
	if (count > 12 && !local && header[12] != COMMAND_PROXY)
		return bad("its version is not 2, or its command is neither LOCAL nor PROXY", why);
	if (count > 13 && !local && addresses_length(header[13], datagrams) < 0)
		return bad("its family or transport is undefined, or not of this listener", why);
	if (count < PROXY_V2_HEAD)
		return PROXY_NEED_MORE;
	int32_t length = header[14] << 8 | header[15];
	if (length > PROXY_V2_BODY_MOST)
		return bad("it is longer than 4096 bytes", why);
	if (!local && length < addresses_length(header[13], datagrams))
		return bad("it is too short for its addresses", why);
	return count - PROXY_V2_HEAD < (size_t)length ? PROXY_NEED_MORE : PROXY_GOOD;
}

static enum proxy_verdict read_v2(const uint8_t *header, size_t count, bool datagrams, struct proxy_header *out, const char **why)
{
	enum proxy_verdict verdict = read_v2_head(header, count, datagrams, why);
	if (verdict != PROXY_GOOD)
		return verdict;
	struct proxy_header read = { .version = 2, .length = PROXY_V2_HEAD + (size_t)(header[14] << 8 | header[15]) };
	read.ends = get_ends(header, datagrams);
	if (read.ends.known) {
		read.tlvs = header + PROXY_V2_HEAD + addresses_length(header[13], datagrams);
		if (!check_tlvs(header, header + read.length, read.tlvs, &read.tlvs_length, why))
			return PROXY_BAD;
	}
	*out = read;
	return PROXY_GOOD;
}

enum proxy_verdict proxy_read(const void *bytes, size_t count, bool datagrams, struct proxy_header *out, const char **why)
{
	const char *wrong = NULL;
	enum proxy_verdict verdict;
	if (!proxy_may_begin(bytes, count))
		verdict = bad("no header of the PROXY protocol", &wrong);
	else if (count > 0 && *(const char *)bytes == 'P')
		verdict = read_v1(bytes, count, datagrams, out, &wrong);
	else
		verdict = count <= PROXY_V2_SIGNATURE_BYTES ? PROXY_NEED_MORE : read_v2(bytes, count, datagrams, out, &wrong);
	if (verdict == PROXY_BAD)
		*why = wrong;
	return verdict;
}
