/* SPDX-License-Identifier: BSD-3-Clause
 * Opening a model: check the artifact (check.c), then choose each layer's kernels.
 */
#include <cblas.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/run/model_private.h"

/* AUTO follows the layout the compiler chose: row-major layers were meant for OpenBLAS. */
static const struct kernels *kernels_for(const struct model_op *op, enum model_backend backend)
{
	switch (backend) {
	case MODEL_BACKEND_SCALAR:
		return &kernels_scalar;
	case MODEL_BACKEND_OPENBLAS:
		return kernels_openblas();
	case MODEL_BACKEND_AUTO:
		if (op->layout == MODEL_LAYOUT_ROW_MAJOR)
			return kernels_openblas();
		return kernels_native();
	default:
		return kernels_native();
	}
}

static int steps_resolve(struct model *m, enum model_backend backend, struct error *err)
{
	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		struct step *s = &m->steps[i];

		s->kernels = kernels_for(&s->op, backend);
		if (s->op.kind == MODEL_OP_DENSE && !s->kernels->dense[s->op.layout])
			return error_set(err, -EINVAL,
				"operator %u is stored %s, which the %s kernels do not read: use "
				"backend auto, or compile for this backend",
				i, model_layout_name(s->op.layout), s->kernels->name);
	}
	return 0;
}

static void backend_describe(struct model *m, enum model_backend backend)
{
	bool blas = backend == MODEL_BACKEND_OPENBLAS, native = false;

	for (uint32_t i = 0; i < m->program.n_ops; i++) {
		if (m->steps[i].op.kind != MODEL_OP_DENSE)
			continue;
		blas |= m->steps[i].kernels == kernels_openblas();
		native |= m->steps[i].kernels != kernels_openblas();
	}
	if (backend == MODEL_BACKEND_SCALAR)
		snprintf(m->backend_name, sizeof(m->backend_name), "scalar");
	else if (blas)
		snprintf(m->backend_name, sizeof(m->backend_name), "openblas %s%s%s",
			openblas_get_corename(), native ? " + native " : "",
			native ? kernels_native()->name : "");
	else
		snprintf(m->backend_name, sizeof(m->backend_name), "native %s",
			kernels_native()->name);
}

int model_open(struct model **out, const void *image, size_t size, enum model_backend backend,
	struct error *err)
{
	struct model *m = calloc(1, sizeof(*m));
	int rc;

	*out = NULL;
	if (!m)
		return error_set(err, -ENOMEM, "no memory for a model");
	rc = model_check(m, image, size, err);
	if (!rc)
		rc = steps_resolve(m, backend, err);
	if (rc) {
		model_close(m);
		return rc;
	}
	backend_describe(m, backend);
	*out = m;
	return 0;
}

void model_close(struct model *m)
{
	if (!m)
		return;
	free(m->buffers);
	free(m->steps);
	free(m->tensors);
	free((void *)m->records);
	free(m->written);
	free(m);
}

const struct model_file_header *model_header(const struct model *m)
{
	return &m->header;
}

const char *model_layout_name(uint32_t layout)
{
	static const char *const names[MODEL_LAYOUT_END] = {
		"", "panels", "row-major", "columns", "bf16 panels", "int8 panels"};

	return layout < MODEL_LAYOUT_END ? names[layout] : "";
}

const char *model_backend_name(const struct model *m)
{
	return m->backend_name;
}
