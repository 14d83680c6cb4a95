#include "tls/build_names.h"

#include <stdbool.h>

/* What may be asked for: letters, digits, "-", "_" and ".", perhaps "*." before it. Lower case in out. */
static bool is_name(const unsigned char *bytes, int length, char *out)
{
	int from = length > 2 && bytes[0] == '*' && bytes[1] == '.' ? 2 : 0;

	if (length > 0 && bytes[length - 1] == '.')
		length--;
	if (length <= from || length >= VAULT_NAME_SIZE)
		return false;
	for (int i = 0; i < length; i++) {
		unsigned char c = bytes[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (i >= from && !letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
			return false;
		out[i] = letter ? (char)(c | 0x20) : (char)c;
	}
	out[length] = '\0';
	return true;
}

static void add(struct own_names *names, struct heap *heap, const char *name, uint32_t certificate, enum vault_kind kind)
{
	if (names->n == names->size) {
		names->size = names->size * 2 + 16;
		names->names = realloc(names->names, names->size * sizeof *names->names);
		ensure(names->names);
	}
	names->names[names->n++] =
	        (struct own_name){ .name = heap_put(heap, name, strlen(name)), .certificate = certificate, .kind = kind };
}

static bool common_name(X509 *leaf, char *out)
{
	const X509_NAME *subject = X509_get_subject_name(leaf);
	int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	const ASN1_STRING *string = index >= 0 ? X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)) : NULL;

	return string && is_name(ASN1_STRING_get0_data(string), ASN1_STRING_length(string), out);
}

const char *own_names_gather(
        struct own_names *names, struct heap *heap, X509 *leaf, uint32_t certificate, enum vault_kind kind, char *out, size_t size)
{
	GENERAL_NAMES *alternatives = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	char name[VAULT_NAME_SIZE];
	bool any = false;

	ERR_clear_error();
	out[0] = '\0';
	for (int i = 0; i < sk_GENERAL_NAME_num(alternatives); i++) {
		const GENERAL_NAME *one = sk_GENERAL_NAME_value(alternatives, i);
		if (one->type != GEN_DNS || !is_name(ASN1_STRING_get0_data(one->d.dNSName), ASN1_STRING_length(one->d.dNSName), name))
			continue;
		add(names, heap, name, certificate, kind);
		if (!any)
			(void)snprintf(out, size, "%s", name);
		any = true;
	}
	if (!any && common_name(leaf, name)) {
		if (!alternatives)
			add(names, heap, name, certificate, kind);
		(void)snprintf(out, size, "%s", name);
	}
	GENERAL_NAMES_free(alternatives);
	return out;
}
