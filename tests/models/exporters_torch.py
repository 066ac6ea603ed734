# SPDX-License-Identifier: BSD-3-Clause
# Networks people export with torch.onnx.export: dense, convolution, recurrent, attention, recommenders, shape plumbing.
"""CASES: name -> (builder, options). A builder returns (module, inputs); inputs have BATCH rows unless static."""
import torch
from torch import nn
from torch.nn import functional as F

BATCH = 5
CASES = {}


def case(name=None, static=False):
    """Register a builder. static: exported with every dimension fixed, one row; else dimension 0 is the batch."""
    def add(builder):
        CASES[name or builder.__name__] = (builder, static)
        return builder
    return add


class Fn(nn.Module):
    """A function with the modules it uses."""

    def __init__(self, fn, **parts):
        super().__init__()
        self.fn = fn
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs):
        return self.fn(self, *inputs)


def ids(high, *shape):
    return torch.randint(0, high, (BATCH, *shape))


def rows(*shape):
    return torch.randn(BATCH, *shape)


def mlp(*widths):
    layers = []
    for k, n in zip(widths, widths[1:]):
        layers += [nn.Linear(k, n), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def sequence(name, *layers, shape=(24,)):
    """layers: functions that make modules, so that seeds are set before weights are drawn."""
    CASES[name] = (lambda: (nn.Sequential(*(make() for make in layers)), (rows(*shape),)), False)


# ---- dense networks: every activation, every norm

ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh, nn.ReLU6, nn.Softplus, nn.Softsign, nn.Tanh, nn.Sigmoid, nn.PReLU, nn.LogSigmoid, nn.Tanhshrink,
    nn.Softshrink, nn.Hardshrink, nn.RReLU, nn.Identity)
for _kind in ACTIVATIONS:
    sequence(f"mlp_{_kind.__name__.lower()}", lambda: nn.Linear(24, 40), _kind, lambda: nn.Linear(40, 7))
for _name, _make in (
        ("softmax", lambda: nn.Softmax(dim=1)), ("log_softmax", lambda: nn.LogSoftmax(dim=-1)),
        ("softmin", lambda: nn.Softmin(dim=1)), ("glu", lambda: nn.GLU(dim=1)),
        ("gelu_tanh", lambda: nn.GELU(approximate="tanh")),
        ("layernorm", lambda: nn.LayerNorm(40)), ("layernorm_plain", lambda: nn.LayerNorm(40, elementwise_affine=False)),
        ("batchnorm", lambda: nn.BatchNorm1d(40)), ("batchnorm_plain", lambda: nn.BatchNorm1d(40, affine=False)),
        ("dropout", lambda: nn.Dropout(0.3)),
        ("alpha_dropout", lambda: nn.AlphaDropout(0.2)),
        ("rmsnorm", lambda: Fn(lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * m.g,
                               g=torch.rand(40) + 0.5)),
        ("l2_normalize", lambda: Fn(lambda m, x: F.normalize(x, dim=1)))):
    sequence(f"mlp_{_name}", lambda: nn.Linear(24, 40), _make)
sequence("mlp_no_bias", lambda: nn.Linear(24, 33, bias=False), nn.ReLU, lambda: nn.Linear(33, 1, bias=False), nn.Sigmoid)
sequence("mlp_deep", *[lambda: nn.Linear(24, 24), nn.Tanh] * 8)
sequence("mlp_reshape", lambda: nn.Linear(24, 24), lambda: Fn(lambda m, x: x.reshape(-1, 4, 6)), lambda: nn.Linear(6, 9),
         nn.Flatten, lambda: nn.Linear(36, 3))
sequence("mlp_weight_norm", lambda: nn.utils.weight_norm(nn.Linear(24, 16)), nn.ReLU)
sequence("mlp_3d", lambda: nn.Linear(6, 9), nn.ReLU, lambda: nn.Linear(9, 2), shape=(4, 6))


@case()
def mlp_residual():
    return Fn(lambda m, x: x + m.b(F.gelu(m.a(m.n(x)))), a=nn.Linear(24, 96), b=nn.Linear(96, 24),
              n=nn.LayerNorm(24)), (rows(24),)


@case()
def mlp_concat_inputs():
    return Fn(lambda m, x, y: m.net(torch.cat([x, y], dim=1)), net=mlp(14, 20, 3)), (rows(8), rows(6))


@case()
def mlp_two_heads():
    return Fn(lambda m, x: (m.a(m.trunk(x)), torch.sigmoid(m.b(m.trunk(x)))),
              trunk=mlp(10, 32, 16), a=nn.Linear(16, 4), b=nn.Linear(16, 1)), (rows(10),)


@case()
def mixture_of_experts():
    def forward(m, x):
        gate = torch.softmax(m.gate(x), dim=1).unsqueeze(2)
        return (torch.stack([e(x) for e in m.experts], dim=1) * gate).sum(dim=1)
    return Fn(forward, gate=nn.Linear(12, 3), experts=nn.ModuleList(mlp(12, 16, 5) for _ in range(3))), (rows(12),)


@case()
def autoencoder_standardised():
    return Fn(lambda m, x: ((m.net((x - m.mean) / m.std) - (x - m.mean) / m.std) ** 2).mean(dim=1),
              net=mlp(16, 8, 3, 8, 16), mean=torch.randn(16), std=torch.rand(16) + 0.5), (rows(16),)


# ---- convolution networks

def conv_bn(i, o, k=3, act=nn.ReLU, **more):
    return nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, bias=False, **more), nn.BatchNorm2d(o), act())


sequence("lenet", lambda: nn.Conv2d(1, 6, 5, padding=2), nn.ReLU, lambda: nn.MaxPool2d(2), lambda: nn.Conv2d(6, 16, 5),
         nn.ReLU, lambda: nn.MaxPool2d(2), nn.Flatten, lambda: mlp(400, 120, 84, 10), shape=(1, 28, 28))
sequence("lenet_tanh_avgpool", lambda: nn.Conv2d(1, 6, 5), nn.Tanh, lambda: nn.AvgPool2d(2), lambda: nn.Conv2d(6, 16, 5),
         nn.Tanh, lambda: nn.AvgPool2d(2), nn.Flatten, lambda: mlp(256, 84, 10), shape=(1, 28, 28))
sequence("mobilenet_block", lambda: conv_bn(8, 24, 1, nn.ReLU6), lambda: conv_bn(24, 24, 3, nn.ReLU6, groups=24, stride=2),
         lambda: conv_bn(24, 12, 1, nn.Identity), lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, shape=(8, 12, 12))
sequence("mobilenet_v3_block", lambda: conv_bn(8, 16, 5, nn.Hardswish, groups=8),
         lambda: nn.Conv2d(16, 4, 1), nn.Hardsigmoid, shape=(8, 9, 9))
sequence("conv_dilated", lambda: nn.Conv2d(2, 4, 3, dilation=2), nn.ELU, lambda: nn.Conv2d(4, 4, 3, padding=1, stride=2),
         shape=(2, 11, 13))
sequence("conv_asymmetric", lambda: nn.Conv2d(3, 6, (1, 5), padding=(0, 2), stride=(2, 1)), nn.ReLU,
         lambda: nn.Conv2d(6, 3, (3, 1), bias=False), shape=(3, 10, 7))
sequence("conv_padding_modes", lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
         lambda: nn.ReplicationPad2d(1), lambda: nn.ConstantPad2d((1, 0, 2, 0), 0.5), lambda: nn.Conv2d(3, 2, 2),
         shape=(2, 6, 6))
sequence("conv_transpose", lambda: nn.Conv2d(1, 4, 3, stride=2), nn.ReLU, lambda: nn.ConvTranspose2d(4, 1, 3, stride=2),
         nn.Sigmoid, shape=(1, 9, 9))
sequence("conv_upsample_nearest", lambda: nn.Conv2d(2, 4, 3), lambda: nn.Upsample(scale_factor=2), lambda: nn.Conv2d(4, 1, 3),
         shape=(2, 6, 6))
sequence("pixel_shuffle", lambda: nn.Conv2d(1, 4, 3, padding=1), lambda: nn.PixelShuffle(2), shape=(1, 5, 5))
sequence("maxpool_ceil_padding", lambda: nn.MaxPool2d(3, stride=2, padding=1), lambda: nn.MaxPool2d(2, ceil_mode=True),
         shape=(2, 11, 11))
sequence("avgpool_padding", lambda: nn.AvgPool2d(3, stride=2, padding=1),
         lambda: nn.AvgPool2d(2, padding=1, count_include_pad=False), shape=(2, 9, 9))
sequence("instance_norm_2d", lambda: nn.Conv2d(2, 4, 3), lambda: nn.InstanceNorm2d(4, affine=True), nn.ReLU, shape=(2, 7, 7))
sequence("group_norm_2d", lambda: nn.Conv2d(2, 8, 3), lambda: nn.GroupNorm(2, 8), nn.SiLU, shape=(2, 7, 7))
sequence("local_response_norm", lambda: nn.Conv2d(2, 8, 3), lambda: nn.LocalResponseNorm(3), shape=(2, 7, 7))
sequence("conv1d_stack", lambda: nn.Conv1d(3, 8, 5, padding=2), nn.ReLU, lambda: nn.MaxPool1d(2), lambda: nn.Conv1d(8, 4, 3),
         lambda: nn.AdaptiveMaxPool1d(1), nn.Flatten, shape=(3, 20))
sequence("conv1d_batchnorm_grouped", lambda: nn.Conv1d(4, 8, 3, groups=2), lambda: nn.BatchNorm1d(8), nn.LeakyReLU,
         lambda: nn.AvgPool1d(3), shape=(4, 16))


@case()
def resnet_block():
    return Fn(lambda m, x: F.relu(m.b(m.a(x)) + m.skip(x)).mean(dim=(2, 3)), a=conv_bn(4, 8, stride=2),
              b=conv_bn(8, 8, 3, nn.Identity), skip=conv_bn(4, 8, 1, nn.Identity, stride=2)), (rows(4, 10, 10),)


@case()
def squeeze_excite():
    return Fn(lambda m, x: x * torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1))))),
              down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1)), (rows(8, 6, 6),)


@case()
def inception_block():
    return Fn(lambda m, x: torch.cat([m.a(x), m.b(x), F.max_pool2d(x, 3, 1, 1)], dim=1),
              a=conv_bn(4, 3, 1), b=conv_bn(4, 5, 5)), (rows(4, 8, 8),)


@case()
def unet_small():
    def forward(m, x):
        deep = m.down(F.max_pool2d(m.first(x), 2))
        return m.last(torch.cat([m.first(x), F.interpolate(deep, scale_factor=2.0, mode="nearest")], dim=1))
    return Fn(forward, first=conv_bn(1, 4), down=conv_bn(4, 8), last=nn.Conv2d(12, 1, 1)), (rows(1, 8, 8),)


@case()
def convnext_block():
    def forward(m, x):
        y = m.norm(m.depth(x).permute(0, 2, 3, 1))
        return x + m.down(F.gelu(m.up(y))).permute(0, 3, 1, 2)
    return Fn(forward, depth=nn.Conv2d(8, 8, 7, padding=3, groups=8), norm=nn.LayerNorm(8), up=nn.Linear(8, 32),
              down=nn.Linear(32, 8)), (rows(8, 9, 9),)


@case()
def causal_conv1d():
    return Fn(lambda m, x: m.b(F.pad(F.relu(m.a(F.pad(x, (2, 0)))), (4, 0)))[:, :, -1],
              a=nn.Conv1d(3, 6, 3), b=nn.Conv1d(6, 2, 3, dilation=2)), (rows(3, 12),)


@case()
def text_cnn():
    def forward(m, x):
        e = m.table(x).transpose(1, 2)
        return m.out(torch.cat([F.relu(c(e)).max(dim=2)[0] for c in m.convs], dim=1))
    return Fn(forward, table=nn.Embedding(50, 8), convs=nn.ModuleList(nn.Conv1d(8, 6, k) for k in (2, 3, 4)),
              out=nn.Linear(18, 2)), (ids(50, 12),)


# ---- recurrent networks

def recurrent(name, kind, static=False, **options):
    first = options.get("batch_first", False)

    def build():
        torch_rnn = kind(6, 10, **options)
        width = 20 if options.get("bidirectional") else 10
        x = torch.randn(1, 7, 6) if static and first else torch.randn(7, 1, 6) if static else rows(7, 6)
        last = (lambda o: o[:, -1]) if first else (lambda o: o[-1])
        return Fn(lambda m, v: m.head(last(m.rnn(v)[0])), rnn=torch_rnn, head=nn.Linear(width, 3)), (x,)
    CASES[name] = (build, static)


for _kind in (nn.LSTM, nn.GRU, nn.RNN):
    _name = _kind.__name__.lower()
    recurrent(_name, _kind, batch_first=True)
    recurrent(f"{_name}_static", _kind, static=True)
    recurrent(f"{_name}_bidirectional", _kind, batch_first=True, bidirectional=True)
    recurrent(f"{_name}_two_layers", _kind, batch_first=True, num_layers=2)


@case()
def gru_text_classifier():
    return Fn(lambda m, x: m.head(m.rnn(m.table(x))[1][-1]), table=nn.Embedding(40, 6),
              rnn=nn.GRU(6, 9, batch_first=True), head=nn.Linear(9, 4)), (ids(40, 8),)


@case()
def lstm_cell_step():
    return Fn(lambda m, x, h, c: m.cell(x, (h, c)), cell=nn.LSTMCell(5, 8)), (rows(5), rows(8), rows(8))


@case()
def gru_cell_unrolled():
    def forward(m, x):
        h = torch.zeros_like(m.first(x[:, 0]))
        for t in range(4):
            h = m.cell(x[:, t], h)
        return h
    return Fn(forward, cell=nn.GRUCell(5, 8), first=nn.Linear(5, 8)), (rows(4, 5),)


# ---- attention

class Attention(nn.Module):
    def __init__(self, width, heads, causal=False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def split(self, x, tokens):
        return x.view(-1, tokens, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def forward(self, x, memory=None, mask=None):
        memory = x if memory is None else memory
        t, s, width = int(x.shape[1]), int(memory.shape[1]), int(x.shape[2])
        q, k, v = self.split(self.q(x), t), self.split(self.k(memory), s), self.split(self.v(memory), s)
        score = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        if self.causal:
            score = score.masked_fill(torch.ones(t, t).tril() == 0, float("-inf"))
        if mask is not None:
            score = score.masked_fill(mask[:, None, None, :] == 0, -1e9)
        return self.o((torch.softmax(score, dim=-1) @ v).transpose(1, 2).reshape(-1, t, width))


class Block(nn.Module):
    def __init__(self, width, heads, causal=False, pre=True, act=F.gelu):
        super().__init__()
        self.attention, self.pre, self.act = Attention(width, heads, causal), pre, act
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x, mask=None):
        if self.pre:
            x = x + self.attention(self.n1(x), mask=mask)
            return x + self.down(self.act(self.up(self.n2(x))))
        x = self.n1(x + self.attention(x, mask=mask))
        return self.n2(x + self.down(self.act(self.up(x))))


@case()
def attention_self():
    return Attention(16, 4), (rows(6, 16),)


@case()
def attention_cross():
    return Attention(16, 2), (rows(3, 16), rows(5, 16))


@case()
def encoder_pre_norm():
    return nn.Sequential(Block(16, 4), Block(16, 4), nn.LayerNorm(16)), (rows(6, 16),)


@case()
def encoder_post_norm_relu():
    return Block(16, 2, pre=False, act=F.relu), (rows(6, 16),)


@case()
def decoder_causal():
    return nn.Sequential(nn.Embedding(30, 16), Block(16, 4, causal=True), nn.Linear(16, 30)), (ids(30, 7),)


@case()
def bert_like():
    def forward(m, x, mask):
        h = m.norm(m.words(x) + m.places(torch.arange(8)))
        h = m.block(h, mask)
        kept = mask.unsqueeze(2).float()
        return (h * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1e-9)
    mask = (torch.arange(8)[None] < torch.randint(3, 9, (BATCH, 1))).long()
    return Fn(forward, words=nn.Embedding(50, 16), places=nn.Embedding(8, 16), norm=nn.LayerNorm(16),
              block=Block(16, 4, pre=False)), (ids(50, 8), mask)


@case()
def vit_small():
    def forward(m, x):
        h = m.patch(x).flatten(2).transpose(1, 2) + m.place
        return m.head(m.block(h).mean(dim=1))
    return Fn(forward, patch=nn.Conv2d(1, 16, 4, stride=4), place=torch.randn(1, 9, 16), block=Block(16, 4),
              head=nn.Linear(16, 5)), (rows(1, 12, 12),)


@case()
def rotary_embedding():
    def forward(m, x):
        a, b = x.chunk(2, dim=-1)
        return x * m.cos + torch.cat([-b, a], dim=-1) * m.sin
    angle = torch.arange(6)[:, None] / 10 ** (torch.arange(4) / 4).repeat(2)[None]
    return Fn(forward, cos=angle.cos(), sin=angle.sin()), (rows(2, 6, 8),)


def without_fast_path(module):
    """torch 1.13 exports its attention modules only in training mode; without dropout that is the same function."""
    module.keep_training = True
    return module


@case(static=True)
def multihead_attention():
    return without_fast_path(Fn(lambda m, x: m.a(x, x, x, need_weights=False)[0],
                                a=nn.MultiheadAttention(16, 4, batch_first=True))), (torch.randn(1, 6, 16),)


@case(static=True)
def transformer_encoder_layer():
    return without_fast_path(nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)), \
        (torch.randn(1, 6, 16),)


@case()
def transformer_encoder_layer_batch():
    return without_fast_path(nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)), (rows(6, 16),)


@case(static=True)
def transformer_encoder_two_layers_gelu():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", norm_first=True)
    return without_fast_path(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), (torch.randn(6, 1, 16),)


@case(static=True)
def transformer_decoder_layer():
    return without_fast_path(nn.TransformerDecoderLayer(16, 2, 32, dropout=0.0, batch_first=True)), \
        (torch.randn(1, 4, 16), torch.randn(1, 6, 16))


# ---- recommenders and search

@case()
def matrix_factorisation():
    return Fn(lambda m, u, i: (m.u(u) * m.i(i)).sum(dim=1) + m.ub(u).squeeze(1) + m.ib(i).squeeze(1),
              u=nn.Embedding(40, 8), i=nn.Embedding(60, 8), ub=nn.Embedding(40, 1), ib=nn.Embedding(60, 1)), \
        (ids(40), ids(60))


@case()
def neural_collaborative_filtering():
    return Fn(lambda m, u, i: torch.sigmoid(m.net(torch.cat([m.u(u), m.i(i), m.u(u) * m.i(i)], dim=1))),
              u=nn.Embedding(40, 8), i=nn.Embedding(60, 8), net=mlp(24, 16, 1)), (ids(40), ids(60))


@case()
def two_tower_scores():
    return Fn(lambda m, u, i: (F.normalize(m.a(u), dim=1) * F.normalize(m.b(i), dim=1)).sum(dim=1, keepdim=True),
              a=mlp(12, 32, 8), b=mlp(9, 32, 8)), (rows(12), rows(9))


@case()
def two_tower_top_k():
    return Fn(lambda m, u: torch.topk(m.a(u) @ m.items, 5, dim=1), a=mlp(12, 32, 8), items=torch.randn(8, 100)), \
        (rows(12),)


@case()
def two_tower_history():
    return Fn(lambda m, h: torch.topk(m.a(m.table(h).mean(dim=1)) @ m.table.weight.t(), 4)[1],
              table=nn.Embedding(70, 8), a=mlp(8, 16, 8)), (ids(70, 6),)


@case()
def cosine_search():
    return Fn(lambda m, q: torch.topk(F.cosine_similarity(q.unsqueeze(1), m.docs.unsqueeze(0), dim=2), 3),
              docs=torch.randn(30, 8)), (rows(8),)


@case()
def dlrm():
    def forward(m, dense, sparse):
        v = [m.bottom(dense)] + [t(sparse[:, i]) for i, t in enumerate(m.tables)]
        x = torch.stack(v, dim=1)
        z = torch.bmm(x, x.transpose(1, 2))
        pairs = torch.stack([z[:, i, j] for i in range(4) for j in range(i)], dim=1)
        return torch.sigmoid(m.top(torch.cat([v[0], pairs], dim=1)))
    return Fn(forward, bottom=mlp(7, 16, 8), tables=nn.ModuleList(nn.Embedding(n, 8) for n in (20, 30, 40)),
              top=mlp(14, 16, 1)), (rows(7), ids(20, 3))


@case()
def dlrm_index_pairs():
    def forward(m, dense, sparse):
        x = torch.cat([m.bottom(dense).unsqueeze(1), m.table(sparse)], dim=1)
        z = torch.matmul(x, x.transpose(1, 2)).flatten(1)
        return m.top(z[:, m.pairs])
    upper = torch.triu_indices(4, 4, 1)
    return Fn(forward, bottom=mlp(7, 8), table=nn.Embedding(50, 8), top=mlp(6, 16, 1),
              pairs=upper[0] * 4 + upper[1]), (rows(7), ids(50, 3))


@case()
def wide_and_deep():
    return Fn(lambda m, x, c: torch.sigmoid(m.wide(x) + m.deep(torch.cat([x, m.table(c).flatten(1)], dim=1))),
              wide=nn.Linear(6, 1), deep=mlp(14, 32, 1), table=nn.Embedding(30, 4)), (rows(6), ids(30, 2))


@case()
def deep_fm():
    def forward(m, c):
        v = m.table(c)
        pairs = 0.5 * (v.sum(dim=1).pow(2) - v.pow(2).sum(dim=1)).sum(dim=1, keepdim=True)
        return torch.sigmoid(m.first(c).sum(dim=1) + pairs + m.deep(v.flatten(1)))
    return Fn(forward, table=nn.Embedding(50, 6), first=nn.Embedding(50, 1), deep=mlp(24, 16, 1)), (ids(50, 4),)


def embedding_bag(mode):
    return lambda: (Fn(lambda m, x: m.bag(x), bag=nn.EmbeddingBag(30, 8, mode=mode)), (ids(30, 4)[:1],))


CASES["embedding_bag_sum"] = (embedding_bag("sum"), True)
CASES["embedding_bag_mean"] = (embedding_bag("mean"), True)


@case()
def embedding_mean_masked():
    def forward(m, x):
        kept = (x != 0).float().unsqueeze(2)
        return (m.table(x) * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
    return Fn(forward, table=nn.Embedding(30, 8, padding_idx=0)), (ids(30, 5),)


@case()
def attention_over_history():
    def forward(m, target, history):
        h, t = m.table(history), m.table(target).unsqueeze(1)
        weight = torch.softmax((h * t).sum(dim=2), dim=1)
        return m.out(torch.cat([(h * weight.unsqueeze(2)).sum(dim=1), t.squeeze(1)], dim=1))
    return Fn(forward, table=nn.Embedding(60, 8), out=mlp(16, 8, 1)), (ids(60), ids(60, 5))


# ---- element by element, reductions, shapes

def function(name, fn, *inputs, **parts):
    CASES[name] = (lambda: (Fn(fn, **parts), tuple(i() for i in inputs)), False)


X = lambda: rows(4, 6)
function("maths", lambda m, x: torch.exp(-x.abs()) + torch.log1p(x * x) * torch.sqrt(x.abs() + 1) - x.sin() * x.cos(), X)
function("rounding", lambda m, x: torch.floor(x) + torch.ceil(x * 2) + torch.round(x * 3) + torch.sign(x), X)
function("powers", lambda m, x: x.pow(2) + (x.abs() + 0.1).pow(0.3) + 2.0 ** x + (x.abs() + 1).reciprocal(), X)
function("clamp_min_max", lambda m, x: torch.clamp(x, -0.5, 0.7) + torch.maximum(x, x * x) + torch.min(x, -x), X)
function("where_compare", lambda m, x: torch.where((x > 0) & (x < 1) | (x <= -2), x, x * 0.1), X)
function("reductions", lambda m, x: torch.cat([x.sum(2), x.mean(2), x.amax(2), x.amin(2), x.prod(2)], dim=1), X)
function("reductions_keepdim", lambda m, x: x - x.mean(dim=(1, 2), keepdim=True) + x.max(dim=1, keepdim=True)[0], X)
function("norms", lambda m, x: torch.stack([x.norm(dim=2), x.norm(p=1, dim=2), torch.logsumexp(x, dim=2)], dim=1), X)
function("std_var", lambda m, x: x.std(dim=2) + x.var(dim=2, unbiased=False), X)
function("argmax_argmin", lambda m, x: (x.argmax(dim=2), x.argmin(dim=1)), X)
function("softmax_axes", lambda m, x: torch.softmax(x, dim=1) + torch.log_softmax(x, dim=2), X)
function("slices", lambda m, x: x[:, 1:3, ::2] + x[:, -2:, 1::2], X)
function("select_stack", lambda m, x: torch.stack([x[:, 0], x[:, -1]], dim=2), X)
function("split_chunk", lambda m, x: torch.cat([p * i for i, p in enumerate(x.split([1, 2, 3], dim=2))], dim=2)
         + torch.cat(x.chunk(2, dim=1)[::-1], dim=1), X)
function("permute_reshape", lambda m, x: x.permute(0, 2, 1).reshape(x.shape[0], 3, 8).flatten(1), X)
function("view_minus_one", lambda m, x: x.view(x.size(0), -1), X)
function("squeeze_unsqueeze", lambda m, x: x[:, :1].squeeze(1).unsqueeze(-1) * x[:, 1].unsqueeze(1), X)
function("expand_repeat", lambda m, x: x[:, :1].expand(-1, 4, -1) + x.mean(2, keepdim=True).repeat(1, 1, 6), X)
function("flip_roll", lambda m, x: x.flip(2) + x.roll(1, dims=1), X)
function("cumsum", lambda m, x: x.cumsum(dim=2), X)
function("gather_index", lambda m, x, i: torch.gather(x, 1, i), lambda: rows(9), lambda: ids(9, 3))
function("index_select", lambda m, x: x.index_select(2, m.at), X, at=torch.tensor([4, 0, 2]))
function("one_hot", lambda m, i: F.one_hot(i, 7).float() @ m.w, lambda: ids(7), w=torch.randn(7, 3))
function("einsum", lambda m, x: torch.einsum("bij,kj->bik", x, m.w), X, w=torch.randn(5, 6))
function("batched_matmul", lambda m, x, y: x @ y.transpose(1, 2), X, lambda: rows(3, 6))
function("casts", lambda m, x: (x > 0).float() * x.int().float() + x.double().float() / 3, X)
function("masked_fill_tril", lambda m, x: x.masked_fill(torch.ones(4, 6).tril() == 0, -1.0), X)
function("broadcast_constants", lambda m, x: (x * m.a + m.b) / m.c, X, a=torch.randn(6), b=torch.randn(4, 1),
         c=torch.rand(1, 4, 6) + 1)
function("sort_top_smallest", lambda m, x: torch.topk(x, 3, dim=1, largest=False), lambda: rows(12))
function("erf_floor_div", lambda m, x: torch.erf(x) + torch.div(x, 0.3, rounding_mode="floor"), X)
function("pixel_mean_std", lambda m, x: ((x.permute(0, 3, 1, 2) / 255 - m.mean) / m.std).mean(dim=(2, 3)),
         lambda: rows(5, 5, 3), mean=torch.rand(3, 1, 1), std=torch.rand(3, 1, 1) + 0.5)
