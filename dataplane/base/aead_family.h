/* SPDX-License-Identifier: BSD-3-Clause
 * The families behind aead.h; private to base/aead*.c.
 */
#pragma once

#include "base/aead.h"

extern const struct aead_family aead_ipsec;
/* Set up and give back a->mgr. 0, -ENOMEM or -ENOTSUP. */
int aead_ipsec_init(struct aead *a);
void aead_ipsec_uninit(struct aead *a);

/* Needs AES-NI, VAES, VPCLMULQDQ and AVX2: aead_vaes_supported(). */
extern const struct aead_family aead_vaes;
int aead_vaes_supported(void);

/* The same on vectors twice as wide: AVX-512 F, BW, DQ and VL besides. */
extern const struct aead_family aead_vaes512;
int aead_vaes512_supported(void);
