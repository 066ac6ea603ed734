/* SPDX-License-Identifier: BSD-3-Clause
 * ONNX model → graph: see onnx_read.h. Nodes are read in file order, which ONNX demands to be
 * topological: a name that is not known yet is an error, so cycles cannot occur.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "models/compile/onnx_read.h"
#include "models/compile/operators.h"

struct name_slot {
	const char *name; /* NULL: free */
	int32_t value;
};

struct reader {
	const Onnx__ModelProto *model;
	struct ir_graph *g;
	struct name_slot *names; /* open addressing, a power of two of slots, at most half full */
	size_t mask;
	int64_t opset;
	struct error *err;
};

static struct name_slot *name_find(const struct reader *r, const char *name)
{
	size_t i = wire_model_id(name) & r->mask;

	while (r->names[i].name && strcmp(r->names[i].name, name))
		i = (i + 1) & r->mask;
	return &r->names[i];
}

static int name_add(struct reader *r, const char *name, int32_t value)
{
	struct name_slot *s = name_find(r, name);

	if (s->name)
		return error_set(r->err, -EINVAL, "the name '%s' is defined twice", name);
	*s = (struct name_slot){name, value};
	return 0;
}

/* Sizes of all tables follow from the message; each node may become three nodes and
 * four values, and a pass may sum a bias. */
static int reader_init(struct reader *r, struct arena *arena)
{
	const Onnx__GraphProto *graph = r->model->graph;
	size_t values = graph->n_initializer + graph->n_input + 5 * graph->n_node + 1, slots = 16;
	int rc;

	if (graph->n_node > MODEL_FILE_MAX_OPS)
		return error_set(r->err, -E2BIG, "the graph has %zu nodes, limit %d", graph->n_node,
			MODEL_FILE_MAX_OPS);
	rc = ir_init(r->g, arena, values, 3 * graph->n_node, r->err);
	if (rc)
		return rc;
	while (slots < 4 * values)
		slots *= 2;
	r->mask = slots - 1;
	r->names = arena_alloc(arena, slots, sizeof(*r->names));
	return r->names ? 0 : error_set(r->err, -ENOMEM, "no memory for %zu names", slots);
}

static int read_opset(struct reader *r)
{
	for (size_t i = 0; i < r->model->n_opset_import; i++) {
		const Onnx__OperatorSetIdProto *o = r->model->opset_import[i];

		if (!o->domain || !o->domain[0] || !strcmp(o->domain, "ai.onnx"))
			r->opset = o->version;
	}
	if (!r->opset)
		return error_set(
			r->err, -ENOTSUP, "the model does not import the ai.onnx operator set");
	if (r->opset < 1 || r->opset > ONNX_MAX_OPSET)
		return error_set(r->err, -ENOTSUP,
			"operator set version %ld, supported are 1 to %d", r->opset,
			ONNX_MAX_OPSET);
	return 0;
}

static int read_initializer(struct reader *r, const Onnx__TensorProto *proto)
{
	struct ir_shape shape = {0};
	struct onnx_tensor t;
	int32_t v;
	int rc = onnx_tensor_read(proto, &t, r->err);

	if (rc)
		return rc;
	if (!t.name[0])
		return error_set(r->err, -EINVAL, "an initializer has no name");
	if (t.rank > IR_MAX_RANK)
		return error_set(r->err, -ENOTSUP, "initializer '%s' has %u dimensions, limit %d",
			t.name, t.rank, IR_MAX_RANK);
	shape.rank = t.rank;
	memcpy(shape.dims, t.dims, t.rank * sizeof(t.dims[0]));
	v = ir_value_new(r->g, t.name, &shape, r->err);
	if (v < 0)
		return v;
	r->g->values[v].f32 = t.f32;
	r->g->values[v].i64 = t.i64;
	return name_add(r, t.name, v);
}

/* Shape of a graph input. Only the first dimension may be free: that is the batch. */
static int input_shape(const struct reader *r, const Onnx__ValueInfoProto *info,
	const Onnx__TensorShapeProto *proto, struct ir_shape *shape)
{
	if (proto->n_dim > MODEL_FILE_MAX_RANK)
		return error_set(r->err, -ENOTSUP, "input '%s' has %zu dimensions, limit %d",
			info->name, proto->n_dim, MODEL_FILE_MAX_RANK);
	*shape = (struct ir_shape){.rank = (uint32_t)proto->n_dim};
	for (size_t i = 0; i < proto->n_dim; i++) {
		const Onnx__TensorShapeProto__Dimension *d = proto->dim[i];

		if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
			if (d->dim_value < 1)
				return error_set(r->err, -EINVAL, "input '%s' dimension %zu is %ld",
					info->name, i, d->dim_value);
			shape->dims[i] = d->dim_value;
		} else if (i == 0) {
			shape->dims[0] = IR_BATCH;
		} else {
			return error_set(r->err, -ENOTSUP,
				"input '%s' leaves dimension %zu free: only "
				"the first, the batch, may be",
				info->name, i);
		}
	}
	return 0;
}

static int read_input(struct reader *r, const Onnx__ValueInfoProto *info)
{
	const Onnx__TypeProto *type = info->type;
	struct ir_graph *g = r->g;
	struct ir_shape shape;
	bool batched;
	int32_t v;
	int rc;

	if (!info->name || !info->name[0])
		return error_set(r->err, -EINVAL, "a graph input has no name");
	if (name_find(r, info->name)->name)
		return 0; /* before IR version 4 initializers were listed among the inputs */
	if (!type || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
		return error_set(r->err, -ENOTSUP, "input '%s' is no tensor", info->name);
	if (type->tensor_type->elem_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)
		return error_set(r->err, -ENOTSUP, "input '%s' is %s: only FLOAT is supported",
			info->name, onnx_type_name(type->tensor_type->elem_type));
	if (!type->tensor_type->shape)
		return error_set(r->err, -ENOTSUP, "input '%s' has no shape", info->name);
	rc = input_shape(r, info, type->tensor_type->shape, &shape);
	if (rc)
		return rc;
	batched = shape.rank && shape.dims[0] == IR_BATCH;
	if (g->n_inputs && batched != g->batched)
		return error_set(r->err, -ENOTSUP,
			"inputs '%s' and '%s': one has a free batch "
			"dimension, the other has not",
			g->inputs[0].name, info->name);
	if (g->n_inputs == MODEL_FILE_MAX_IO)
		return error_set(r->err, -ENOTSUP, "more than %d inputs", MODEL_FILE_MAX_IO);
	v = ir_value_new(g, info->name, &shape, r->err);
	if (v < 0)
		return v;
	g->batched = batched;
	g->values[v].is_input = true;
	g->inputs[g->n_inputs++] = (struct ir_port){info->name, v};
	return name_add(r, info->name, v);
}

/* Is `word` one of the comma-separated words of `list`? */
static bool listed(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
		if (strcspn(at, ",") == n && !memcmp(at, word, n))
			return true;
	return false;
}

static int check_attributes(
	const struct reader *r, const struct onnx_operator *op, const struct onnx_node *n)
{
	for (size_t i = 0; i < n->proto->n_attribute; i++) {
		const char *name = n->proto->attribute[i]->name;

		if (!name || !listed(op->attributes, name))
			return error_set(r->err, -ENOTSUP,
				"attribute '%s' of %s is not supported "
				"(node '%s')",
				name ? name : "", op->name, n->name);
	}
	return 0;
}

static int resolve_inputs(
	const struct reader *r, const struct onnx_operator *op, struct onnx_node *n)
{
	const Onnx__NodeProto *p = n->proto;

	n->n_in = p->n_input;
	while (n->n_in && !p->input[n->n_in - 1][0])
		n->n_in--; /* trailing inputs left out */
	if (n->n_in < op->min_inputs || n->n_in > op->max_inputs)
		return error_set(r->err, -EINVAL, "%s takes %zu to %zu inputs, node '%s' has %zu",
			op->name, op->min_inputs, op->max_inputs, n->name, n->n_in);
	for (size_t i = 0; i < n->n_in; i++) {
		const struct name_slot *s = name_find(r, p->input[i]);

		n->in[i] = IR_NONE;
		if (!p->input[i][0] && i >= op->min_inputs)
			continue;
		if (!s->name)
			return error_set(r->err, -EINVAL,
				"node '%s' uses '%s', which nothing before it "
				"produces",
				n->name, p->input[i]);
		n->in[i] = s->value;
	}
	return 0;
}

/* Everything but shapes is float: an INT64 constant may only be Reshape's second input. */
static int check_types(const struct reader *r, const struct onnx_node *n)
{
	for (size_t i = 0; i < n->n_in; i++)
		if (n->in[i] != IR_NONE && r->g->values[n->in[i]].i64 &&
			strcmp(n->proto->op_type, "Identity") &&
			!(i == 1 && !strcmp(n->proto->op_type, "Reshape")))
			return error_set(r->err, -ENOTSUP,
				"%s on INT64 is not supported (node '%s')", n->proto->op_type,
				n->name);
	return 0;
}

static int read_node(struct reader *r, const Onnx__NodeProto *p)
{
	struct onnx_node n = {.proto = p, .name = p->name, .opset = r->opset};
	const char *type = p->op_type ? p->op_type : "";
	const struct onnx_operator *op = operator_find(type);
	int32_t out;
	int rc;

	if (!n.name || !n.name[0])
		n.name = p->n_output ? p->output[0] : "";
	if (!op || (p->domain && p->domain[0] && strcmp(p->domain, "ai.onnx")))
		return error_set(r->err, -ENOTSUP, "operator %s%s%s is not supported (node '%s')",
			p->domain ? p->domain : "", p->domain && p->domain[0] ? "." : "", type,
			n.name);
	if (!p->n_output || !p->output[0][0])
		return error_set(r->err, -EINVAL, "node '%s' (%s) has no output", n.name, type);
	rc = check_attributes(r, op, &n);
	if (!rc)
		rc = resolve_inputs(r, op, &n);
	if (!rc)
		rc = check_types(r, &n);
	if (rc)
		return rc;
	out = op->build(r->g, &n, r->err);
	return out < 0 ? out : name_add(r, p->output[0], out);
}

static int read_output(struct reader *r, const Onnx__ValueInfoProto *info)
{
	struct ir_graph *g = r->g;
	const struct name_slot *s;

	if (!info->name || !info->name[0])
		return error_set(r->err, -EINVAL, "a graph output has no name");
	s = name_find(r, info->name);
	if (!s->name)
		return error_set(r->err, -EINVAL, "no node produces the output '%s'", info->name);
	if (ir_is_constant(g, s->value))
		return error_set(
			r->err, -ENOTSUP, "output '%s' does not depend on any input", info->name);
	if (g->n_outputs == MODEL_FILE_MAX_IO)
		return error_set(r->err, -ENOTSUP, "more than %d outputs", MODEL_FILE_MAX_IO);
	g->outputs[g->n_outputs++] = (struct ir_port){info->name, s->value};
	return 0;
}

int onnx_read(
	const Onnx__ModelProto *model, struct arena *arena, struct ir_graph *g, struct error *err)
{
	struct reader r = {.model = model, .g = g, .err = err};
	const Onnx__GraphProto *graph = model->graph;
	int rc;

	if (!graph)
		return error_set(err, -EINVAL, "no graph: this is no ONNX model");
	if (graph->n_sparse_initializer)
		return error_set(err, -ENOTSUP, "sparse initializers are not supported");
	rc = reader_init(&r, arena);
	if (!rc)
		rc = read_opset(&r);
	for (size_t i = 0; !rc && i < graph->n_initializer; i++)
		rc = read_initializer(&r, graph->initializer[i]);
	for (size_t i = 0; !rc && i < graph->n_input; i++)
		rc = read_input(&r, graph->input[i]);
	for (size_t i = 0; !rc && i < graph->n_node; i++)
		rc = read_node(&r, graph->node[i]);
	for (size_t i = 0; !rc && i < graph->n_output; i++)
		rc = read_output(&r, graph->output[i]);
	if (!rc && (!g->n_inputs || !g->n_outputs))
		rc = error_set(err, -ENOTSUP,
			"the graph has %u inputs and %u outputs, both are needed", g->n_inputs,
			g->n_outputs);
	return rc;
}
