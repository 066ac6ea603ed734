/* SPDX-License-Identifier: BSD-3-Clause
 * Choice of the AES-256-GCM family: see aead.h.
 */
#include <errno.h>
#include <string.h>

#include "base/aead_family.h"

int aead_init_family(struct aead *a, const char *name)
{
	*a = (struct aead){0};
	if (strcmp(name, aead_vaes.name) == 0) {
		a->family = &aead_vaes;
		return aead_vaes_supported() ? 0 : -ENOTSUP;
	}
	if (strcmp(name, aead_vaes512.name) == 0) {
		a->family = &aead_vaes512;
		return aead_vaes512_supported() ? 0 : -ENOTSUP;
	}
	if (strcmp(name, aead_ipsec.name) == 0) {
		a->family = &aead_ipsec;
		return aead_ipsec_init(a);
	}
	return -ENOENT;
}

int aead_init(struct aead *a)
{
	return aead_init_family(a, aead_vaes512_supported() ? aead_vaes512.name :
		aead_vaes_supported() ? aead_vaes.name : aead_ipsec.name);
}

void aead_uninit(struct aead *a)
{
	aead_ipsec_uninit(a);
}
