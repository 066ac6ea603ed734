/* SPDX-License-Identifier: BSD-3-Clause
 * exp, tanh, erf, log and the activations made of them, on one vector: include vec_avx512.h or
 * vec_avx2.h first.
 *
 * Largest errors over all floats, in ULP of the exact result (tests/models/test_vecmath.c measures
 * and asserts them; results below 2^-126 excepted):
 *   exp 2, expm1 3, log 2, sigmoid 4, tanh 4, erf 2, softplus 4
 * and, in ULP of x, for those that tend to 0 on the left as differences do:
 *   gelu 2, gelu_tanh 4, silu 4, mish 4
 * NaN in, NaN out. Polynomials: Cephes expf, logf, tanhf (Moshier); erff by N. Juffa.
 */
#pragma once

/* p(r) with e^r = 1 + p, for x = n ln2 + r, |r| <= ln2/2: Cody-Waite reduction. */
INLINE vf exp_reduced(vf x, vf *n)
{
	vf r, p;

	*n = v_round(v_mul(x, v_set(1.44269504088896341f)));
	r = v_fnma(*n, v_set(0.693359375f), x);
	r = v_fnma(*n, v_set(-2.12194440e-4f), r);
	p = v_set(1.9875691500e-4f);
	p = v_fma(p, r, v_set(1.3981999507e-3f));
	p = v_fma(p, r, v_set(8.3334519073e-3f));
	p = v_fma(p, r, v_set(4.1665795894e-2f));
	p = v_fma(p, r, v_set(1.6666665459e-1f));
	p = v_fma(p, r, v_set(5.0000001201e-1f));
	return v_fma(v_mul(r, r), p, r);
}

/* Constants come first in min and max: with a NaN the second operand, the data, is returned. */
INLINE vf v_exp(vf x)
{
	vf n, p = exp_reduced(v_min(v_set(89.0f), v_max(v_set(-104.0f), x)), &n);

	return v_scale(v_add(p, v_set(1.0f)), n);
}

/* e^x - 1 = 2^n p + (2^n - 1) */
INLINE vf v_expm1(vf x)
{
	vf n, p = exp_reduced(v_min(v_set(88.0f), v_max(v_set(-20.0f), x)), &n);
	vf power = v_scale(v_set(1.0f), n);

	return v_fma(p, power, v_sub(power, v_set(1.0f)));
}

INLINE vf v_sigmoid(vf x)
{
	const vf one = v_set(1.0f);

	return v_div(one, v_add(one, v_exp(v_neg(x))));
}

/* |x| < 0.625: odd polynomial; else 1 - 2 / (e^2|x| + 1) with x's sign. */
INLINE vf v_tanh(vf x)
{
	const vf one = v_set(1.0f), two = v_set(2.0f);
	vf mag = v_abs(x), z = v_mul(x, x), p, big;

	p = v_set(-5.70498872745e-3f);
	p = v_fma(p, z, v_set(2.06390887954e-2f));
	p = v_fma(p, z, v_set(-5.37397155531e-2f));
	p = v_fma(p, z, v_set(1.33314422036e-1f));
	p = v_fma(p, z, v_set(-3.33332819422e-1f));
	p = v_fma(v_mul(p, z), x, x);
	big = v_sub(one, v_div(two, v_add(v_exp(v_mul(mag, two)), one)));
	return v_select(v_less(mag, v_set(0.625f)), p, v_signed(big, x));
}

/* |x| <= 0.9277: odd polynomial; else 1 - e^-q(|x|) with x's sign. */
INLINE vf v_erf(vf x)
{
	vf mag = v_abs(x), z = v_mul(x, x), t, s, p, q, u;

	p = v_set(-5.96761703e-4f);
	p = v_fma(p, z, v_set(4.99119423e-3f));
	p = v_fma(p, z, v_set(-2.67681349e-2f));
	p = v_fma(p, z, v_set(1.12819925e-1f));
	p = v_fma(p, z, v_set(-3.76125336e-1f));
	p = v_fma(p, z, v_set(1.28379166e-1f));
	p = v_fma(p, x, x);
	t = v_min(v_set(4.0f), mag); /* erf(4) rounds to 1; NaN passes */
	s = v_mul(t, t);
	q = v_fma(v_set(-1.72853470e-5f), t, v_set(3.83197126e-4f));
	u = v_fma(v_set(-3.88396438e-3f), t, v_set(2.42546219e-2f));
	q = v_fma(q, s, u);
	q = v_fma(q, t, v_set(-1.06777877e-1f));
	q = v_fma(q, t, v_set(-6.34846687e-1f));
	q = v_fma(q, t, v_set(-1.28717512e-1f));
	q = v_fma(q, t, v_neg(t));
	q = v_sub(v_set(1.0f), v_exp(q));
	return v_select(v_less(v_set(0.927734375f), mag), v_signed(q, x), p);
}

/* log m for m in [sqrt(1/2), sqrt 2), plus e ln2: Cephes. */
INLINE vf log_parts(vf m, vf e)
{
	vf f = v_sub(m, v_set(1.0f)), z = v_mul(f, f), p;

	p = v_set(7.0376836292e-2f);
	p = v_fma(p, f, v_set(-1.1514610310e-1f));
	p = v_fma(p, f, v_set(1.1676998740e-1f));
	p = v_fma(p, f, v_set(-1.2420140846e-1f));
	p = v_fma(p, f, v_set(1.4249322787e-1f));
	p = v_fma(p, f, v_set(-1.6668057665e-1f));
	p = v_fma(p, f, v_set(2.0000714765e-1f));
	p = v_fma(p, f, v_set(-2.4999993993e-1f));
	p = v_fma(p, f, v_set(3.3333331174e-1f));
	p = v_mul(v_mul(p, f), z);
	p = v_fma(e, v_set(-2.12194440e-4f), p);
	p = v_fnma(v_set(0.5f), z, p);
	return v_fma(e, v_set(0.693359375f), v_add(f, p));
}

/* Of positive finite numbers. */
INLINE vf log_positive(vf x)
{
	vf m = v_mantissa(x), e = v_exponent(x);
	vm large = v_less(v_set(1.41421356f), m);

	m = v_select(large, v_mul(m, v_set(0.5f)), m);
	return log_parts(m, v_select(large, v_add(e, v_set(1.0f)), e));
}

INLINE vf v_log(vf x)
{
	const vf zero = v_set(0.0f), infinity = v_set(__builtin_inff());
	vf y = log_positive(x);

	y = v_select(v_equal(x, infinity), infinity, y);
	y = v_select(v_equal(x, zero), v_neg(infinity), y);
	y = v_select(v_less(x, zero), v_set(__builtin_nanf("")), y);
	return v_select(v_is_nan(x), x, y);
}

/* log(1 + u) for u in [0, 1]: what 1 + u lost comes back by the derivative. */
INLINE vf log1p_unit(vf u)
{
	vf w = v_add(v_set(1.0f), u), lost = v_sub(u, v_sub(w, v_set(1.0f)));

	return v_add(log_positive(w), v_div(lost, w));
}

INLINE vf v_softplus(vf x)
{
	vf u = v_exp(v_neg(v_abs(x)));

	return v_select(v_is_nan(x), x, v_add(v_max(x, v_set(0.0f)), log1p_unit(u)));
}

INLINE vf v_gelu(vf x)
{
	vf half = v_mul(x, v_set(0.5f)), e = v_erf(v_mul(x, v_set(0.70710678118654752f)));

	return v_fma(half, e, half);
}

/* x / 2 (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
INLINE vf v_gelu_tanh(vf x)
{
	const vf one = v_set(1.0f);
	vf u = v_fma(v_mul(v_mul(x, x), x), v_set(0.044715f), x);

	u = v_mul(u, v_set(-1.5957691216057308f));
	return v_div(x, v_add(one, v_exp(u)));
}

/* x sigmoid(a x) */
INLINE vf v_silu(vf x, vf a)
{
	return v_div(x, v_add(v_set(1.0f), v_exp(v_neg(v_mul(x, a)))));
}

/* x tanh(log(1 + e)) = x (e^2 + 2 e) / (e^2 + 2 e + 2), e = e^x; 1 to the last bit from 20 on. */
INLINE vf v_mish(vf x)
{
	vf e = v_exp(v_min(v_set(20.0f), x)), n = v_mul(e, v_add(e, v_set(2.0f)));

	return v_mul(x, v_div(n, v_add(n, v_set(2.0f))));
}
