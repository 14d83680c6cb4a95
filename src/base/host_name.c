#include "base/host_name.h"

#include <stdbool.h>

static bool is_of_name(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

size_t host_name_fold(char *name, size_t length)
{
	size_t label = 0;
	if (length > 1 && name[length - 1] == '.')
		length--;
	if (length > HOST_NAME_LONGEST)
		return 0;
	for (size_t i = 0; i < length; i++) {
		if (name[i] >= 'A' && name[i] <= 'Z')
			name[i] = (char)(name[i] - 'A' + 'a');
		bool dot = name[i] == '.';
		if (dot ? label == 0 : !is_of_name(name[i]) || label == HOST_LABEL_LONGEST)
			return 0;
		label = dot ? 0 : label + 1;
	}
	return label > 0 ? length : 0;
}
