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
	const struct compile_options *options;
	struct onnx_node node; /* the one being read */
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

/* The tables grow with the graph; every name is known now. */
static int reader_init(struct reader *r, struct arena *arena)
{
	const Onnx__GraphProto *graph = r->model->graph;
	size_t values = graph->n_initializer + graph->n_input + 4 * graph->n_node + 1, slots = 16;
	size_t names = graph->n_initializer + graph->n_input;
	int rc;

	if (graph->n_node > MODEL_FILE_MAX_OPS)
		return error_set(r->err, -E2BIG, "the graph has %zu nodes, limit %d", graph->n_node,
			MODEL_FILE_MAX_OPS);
	rc = ir_init(r->g, arena, values, 3 * graph->n_node, r->err);
	if (rc)
		return rc;
	for (size_t i = 0; i < graph->n_node; i++)
		names += graph->node[i]->n_output;
	while (slots < 2 * names + 2)
		slots *= 2;
	r->mask = slots - 1;
	r->names = arena_alloc(arena, slots, sizeof(*r->names));
	return r->names ? 0 : error_set(r->err, -ENOMEM, "no memory for %zu names", names);
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

/* A constant value named `name` from a tensor. */
static int add_constant(struct reader *r, const char *name, const struct onnx_tensor *t)
{
	struct tensor shape = {.dtype = t->dtype, .rank = t->rank};
	int32_t v;

	for (uint32_t d = 0; d < t->rank; d++)
		shape.dims[d] = (uint32_t)t->dims[d];
	v = ir_value_new(r->g, name, &shape, r->err);
	if (v < 0)
		return v;
	r->g->values[v].data = t->data;
	return name_add(r, name, v);
}

static int read_initializer(struct reader *r, const Onnx__TensorProto *proto)
{
	struct onnx_tensor t;
	int rc = onnx_tensor_read(proto, r->g->arena, &t, r->err);

	if (rc)
		return rc;
	if (!t.name[0])
		return error_set(r->err, -EINVAL, "an initializer has no name");
	return add_constant(r, t.name, &t);
}

/* Shape of a graph input. Only the first dimension may be free: that is the batch. */
static int input_shape(const struct reader *r, const Onnx__ValueInfoProto *info,
	const Onnx__TensorShapeProto *proto, struct tensor *shape, bool *batched)
{
	if (proto->n_dim > MODEL_FILE_MAX_RANK)
		return error_set(r->err, -ENOTSUP, "input '%s' has %zu dimensions, limit %d",
			info->name, proto->n_dim, MODEL_FILE_MAX_RANK);
	shape->rank = (uint32_t)proto->n_dim;
	for (size_t i = 0; i < proto->n_dim; i++) {
		const Onnx__TensorShapeProto__Dimension *d = proto->dim[i];

		if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
			if (d->dim_value < 1 || d->dim_value > 1 << 30)
				return error_set(r->err, -ENOTSUP,
					"input '%s' dimension %zu is %ld", info->name, i,
					d->dim_value);
			shape->dims[i] = (uint32_t)d->dim_value;
		} else if (i == 0) {
			shape->dims[0] = 1;
			*batched = true;
		} else {
			return error_set(r->err, -ENOTSUP,
				"input '%s' leaves dimension %zu free: only "
				"the first, the batch, may be",
				info->name, i);
		}
	}
	return 0;
}

static const struct compile_binding *binding_of(const struct reader *r, const char *name)
{
	for (uint32_t i = 0; i < r->options->n_bindings; i++)
		if (!strcmp(r->options->bindings[i].name, name))
			return &r->options->bindings[i];
	return NULL;
}

static int read_bound(struct reader *r, const char *name, const struct compile_binding *b)
{
	struct tensor shape = {.dtype = b->dtype, .rank = b->rank};
	int32_t v;

	if (b->rank > TENSOR_MAX_RANK || !wire_dtype_bytes(b->dtype))
		return error_set(
			r->err, -EINVAL, "the value bound to '%s' has rank %u", name, b->rank);
	for (uint32_t d = 0; d < b->rank; d++)
		shape.dims[d] = (uint32_t)b->dims[d];
	v = ir_value_new(r->g, name, &shape, r->err);
	if (v < 0)
		return v;
	r->g->values[v].data = b->data;
	return name_add(r, name, v);
}

static int add_input(struct reader *r, const char *name, const struct tensor *shape, bool batched)
{
	struct ir_graph *g = r->g;
	int32_t v;

	if (g->n_inputs && batched != g->batched)
		return error_set(r->err, -ENOTSUP,
			"inputs '%s' and '%s': one has a free batch "
			"dimension, the other has not",
			g->inputs[0].name, name);
	if (g->n_inputs == MODEL_FILE_MAX_IO)
		return error_set(r->err, -ENOTSUP, "more than %d inputs", MODEL_FILE_MAX_IO);
	v = ir_value_new(g, name, shape, r->err);
	if (v < 0)
		return v;
	g->batched = batched;
	g->values[v].input = v;
	g->values[v].batch = batched ? 0 : IR_NONE;
	g->inputs[g->n_inputs++] = (struct ir_port){name, v};
	return name_add(r, name, v);
}

static int read_input(struct reader *r, const Onnx__ValueInfoProto *info)
{
	const Onnx__TypeProto *type = info->type;
	struct tensor shape = {0};
	bool batched = false;
	int rc;

	if (!info->name || !info->name[0])
		return error_set(r->err, -EINVAL, "a graph input has no name");
	if (name_find(r, info->name)->name)
		return 0; /* before IR version 4 initializers were listed among the inputs */
	if (binding_of(r, info->name))
		return read_bound(r, info->name, binding_of(r, info->name));
	if (!type || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
		return error_set(r->err, -ENOTSUP, "input '%s' is no tensor", info->name);
	shape.dtype = onnx_wire_dtype(type->tensor_type->elem_type);
	if (!shape.dtype)
		return error_set(r->err, -ENOTSUP, "input '%s' is %s, which is not supported",
			info->name, onnx_type_name(type->tensor_type->elem_type));
	if (!type->tensor_type->shape)
		return error_set(r->err, -ENOTSUP, "input '%s' has no shape", info->name);
	rc = input_shape(r, info, type->tensor_type->shape, &shape, &batched);
	return rc ? rc : add_input(r, info->name, &shape, batched);
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

static int64_t opset_of(const struct reader *r, const char *domain)
{
	return strcmp(domain, "ai.onnx.ml") ? r->opset : 1;
}

/* Every output the model names and the builder made. */
static int name_outputs(struct reader *r, const struct onnx_node *n)
{
	int rc = 0;

	for (size_t k = 0; !rc && k < n->n_out; k++) {
		if (!n->proto->output[k][0])
			continue;
		if (n->out[k] < IR_NONE)
			return n->out[k];
		if (n->out[k] == IR_NONE)
			return error_set(r->err, -ENOTSUP,
				"output %zu of %s is not supported (node '%s')", k,
				n->proto->op_type, n->name);
		rc = name_add(r, n->proto->output[k], n->out[k]);
	}
	return rc;
}

/* The first output with a name: leading ones may be left out. NULL if all are. */
static const char *first_output(const Onnx__NodeProto *p)
{
	for (size_t k = 0; k < p->n_output; k++)
		if (p->output[k][0])
			return p->output[k];
	return NULL;
}

static int read_node(struct reader *r, const Onnx__NodeProto *p)
{
	const char *type = p->op_type ? p->op_type : "", *domain = p->domain ? p->domain : "";
	const struct onnx_operator *op = operator_find(domain, type);
	struct onnx_node *n = &r->node;
	int rc;

	n->proto = p;
	n->name = p->name && p->name[0] ? p->name : first_output(p) ? first_output(p) : "";
	if (!op || (op->since > r->opset && !domain[0]))
		return error_set(r->err, -ENOTSUP, "operator %s%s%s is not supported (node '%s')",
			domain, domain[0] ? "." : "", type, n->name);
	if (!first_output(p))
		return error_set(r->err, -EINVAL, "node '%s' (%s) has no output", n->name, type);
	if (p->n_output > OPERATOR_MAX_OUTPUTS)
		return error_set(r->err, -ENOTSUP, "node '%s' (%s) has %zu outputs, limit %d",
			n->name, type, p->n_output, OPERATOR_MAX_OUTPUTS);
	n->opset = opset_of(r, domain);
	n->argument = op->argument;
	n->n_out = p->n_output;
	for (size_t k = 0; k < n->n_out || k < 4; k++)
		n->out[k] = IR_NONE;
	rc = check_attributes(r, op, n);
	if (!rc)
		rc = resolve_inputs(r, op, n);
	if (rc)
		return rc;
	n->out[0] = op->build(n);
	if (n->out[0] < 0)
		return n->out[0];
	return name_outputs(r, n);
}

/* A constant answer still has to be written: one walk from the weights to a buffer. */
static int32_t constant_output(struct reader *r, const char *name, int32_t v)
{
	const struct tensor t = r->g->values[v].t;
	struct ir_node *n;
	int32_t out;

	if (r->g->batched || r->g->values[v].symbolic)
		return error_set(
			r->err, -ENOTSUP, "output '%s' does not depend on any input", name);
	out = ir_value_new(r->g, name, &t, r->err);
	n = out < 0 ? NULL : ir_node_new(r->g, IR_TENSOR, name, r->err);
	if (!n)
		return r->err->code;
	n->t = (struct tensor_op){
		.function = MODEL_FN_CAST, .n_in = 1, .n_out = 1, .in = {t}, .i = {t.dtype}};
	n->in[0] = v;
	n->out[0] = out;
	return tensor_infer(&n->t, r->err) ? r->err->code : out;
}

static int read_output(struct reader *r, const Onnx__ValueInfoProto *info)
{
	struct ir_graph *g = r->g;
	const struct name_slot *s;
	int32_t v;

	if (!info->name || !info->name[0])
		return error_set(r->err, -EINVAL, "a graph output has no name");
	s = name_find(r, info->name);
	if (!s->name)
		return error_set(r->err, -EINVAL, "no node produces the output '%s'", info->name);
	if (g->n_outputs == MODEL_FILE_MAX_IO)
		return error_set(r->err, -ENOTSUP, "more than %d outputs", MODEL_FILE_MAX_IO);
	v = s->value;
	if (ir_is_constant(g, v))
		v = constant_output(r, info->name, v);
	if (v < 0)
		return v;
	if (g->batched && (g->values[v].batch != 0 || g->values[v].t.dims[0] != 1))
		return error_set(r->err, -ENOTSUP,
			"output '%s': the batch is not its first dimension", info->name);
	g->outputs[g->n_outputs++] = (struct ir_port){info->name, v};
	return 0;
}

int onnx_read(const Onnx__ModelProto *model, const struct compile_options *options,
	struct arena *arena, struct ir_graph *g, struct error *err)
{
	struct reader r = {.model = model,
		.options = options,
		.g = g,
		.err = err,
		.node = {.g = g, .err = err}};
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
	if (!rc && ((!g->n_inputs && !options->allow_constant) || !g->n_outputs))
		rc = error_set(err, -ENOTSUP,
			"the graph has %u inputs and %u outputs, both are needed", g->n_inputs,
			g->n_outputs);
	return rc;
}
