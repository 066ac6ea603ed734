# SPDX-License-Identifier: BSD-3-Clause
# More networks for torch.onnx.export: the building blocks of published architectures, each small, registered in CASES.
import torch
from torch import nn
from torch.nn import functional as F

from exporters_torch import Attention, Block, Fn, case, conv_bn, ids, mlp, rows

# ---- vision


def shuffled(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


@case()
def shufflenet_unit():
    return Fn(lambda m, x: shuffled(torch.cat([x[:, :4], m.b(m.a(x[:, 4:]))], dim=1), 2), a=conv_bn(4, 4, 1),
              b=conv_bn(4, 4, 3, nn.Identity, groups=4)), (rows(8, 6, 6),)


@case()
def efficientnet_mbconv():
    def forward(m, x):
        y = m.depth(m.up(x))
        gate = torch.sigmoid(m.b(F.silu(m.a(y.mean((2, 3), keepdim=True)))))
        return x + m.down(y * gate)
    return Fn(forward, up=conv_bn(6, 24, 1, nn.SiLU), depth=conv_bn(24, 24, 5, nn.SiLU, groups=24), a=nn.Conv2d(24, 4, 1),
              b=nn.Conv2d(4, 24, 1), down=conv_bn(24, 6, 1, nn.Identity)), (rows(6, 8, 8),)


@case()
def densenet_block():
    def forward(m, x):
        for layer in m.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return F.avg_pool2d(x, 2)
    return Fn(forward, layers=nn.ModuleList(
        nn.Sequential(nn.BatchNorm2d(4 + 3 * i), nn.ReLU(), nn.Conv2d(4 + 3 * i, 3, 3, padding=1, bias=False))
        for i in range(3))), (rows(4, 6, 6),)


@case()
def resnext_grouped():
    return Fn(lambda m, x: F.relu(x + m.net(x)), net=nn.Sequential(
        conv_bn(8, 16, 1), conv_bn(16, 16, 3, groups=4), conv_bn(16, 8, 1, nn.Identity))), (rows(8, 7, 7),)


@case()
def squeezenet_fire():
    def forward(m, x):
        s = F.relu(m.squeeze(x))
        return F.relu(torch.cat([m.one(s), m.three(s)], 1))
    return Fn(forward, squeeze=nn.Conv2d(8, 3, 1), one=nn.Conv2d(3, 6, 1), three=nn.Conv2d(3, 6, 3, padding=1)), \
        (rows(8, 5, 5),)


@case()
def spatial_pyramid_pooling():
    return Fn(lambda m, x: torch.cat([F.adaptive_avg_pool2d(x, n).flatten(1) for n in (1, 2, 4)], 1) @ m.w,
              w=torch.randn(21 * 3, 5)), (rows(3, 8, 8),)


@case()
def detection_head_decode():
    def forward(m, x):
        y = m.conv(x).view(-1, 2, 7, 4, 4).permute(0, 1, 3, 4, 2)
        s = torch.sigmoid(y)
        boxes = torch.cat([(s[..., :2] * 2 - 0.5 + m.grid) * 8, (s[..., 2:4] * 2) ** 2 * 16, s[..., 4:]], -1)
        return boxes.reshape(-1, 32, 7)
    grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy"), -1)
    return Fn(forward, conv=nn.Conv2d(6, 14, 1), grid=grid), (rows(6, 4, 4),)


@case()
def dcgan_generator():
    return Fn(lambda m, z: torch.tanh(m.b(F.relu(m.norm(m.a(z.view(-1, 8, 1, 1)))))),
              a=nn.ConvTranspose2d(8, 6, 4, bias=False), norm=nn.BatchNorm2d(6),
              b=nn.ConvTranspose2d(6, 1, 4, stride=2, padding=1, bias=False)), (rows(8),)


@case()
def style_transfer_residual():
    return Fn(lambda m, x: x + m.n2(m.b(F.relu(m.n1(m.a(F.pad(x, (1, 1, 1, 1), mode="reflect")))))),
              a=nn.Conv2d(4, 4, 3), b=nn.Conv2d(4, 4, 3, padding=1), n1=nn.InstanceNorm2d(4, affine=True),
              n2=nn.InstanceNorm2d(4)), (rows(4, 8, 8),)


@case()
def mlp_mixer():
    def forward(m, x):
        x = x + m.tokens(m.n1(x).transpose(1, 2)).transpose(1, 2)
        return (x + m.channels(m.n2(x))).mean(1)
    return Fn(forward, n1=nn.LayerNorm(12), n2=nn.LayerNorm(12), tokens=mlp(9, 16, 9), channels=mlp(12, 24, 12)), \
        (rows(9, 12),)


@case()
def patch_merging():
    def forward(m, x):
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return m.reduce(m.norm(torch.cat(parts, -1)))
    return Fn(forward, norm=nn.LayerNorm(24), reduce=nn.Linear(24, 12, bias=False)), (rows(4, 4, 6),)


@case()
def window_attention():
    def forward(m, x):
        w = x.view(-1, 2, 3, 2, 3, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 9, 8)
        y = m.attention(w).view(-1, 2, 2, 3, 3, 8).permute(0, 1, 3, 2, 4, 5)
        return y.reshape(-1, 6, 6, 8)
    return Fn(forward, attention=Attention(8, 2)), (rows(6, 6, 8),)


# ---- sequences

@case()
def llama_block():
    """RMS norm, rotary embedding, grouped keys, SwiGLU."""
    def norm(x, g):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * g

    def turn(m, x):
        a, b = x[..., :4], x[..., 4:]
        return x * m.cos + torch.cat((-b, a), -1) * m.sin

    def forward(m, x):
        h = norm(x, m.g1)
        q, k, v = (p(h).view(-1, 5, n, 8).transpose(1, 2) for p, n in ((m.q, 4), (m.k, 2), (m.v, 2)))
        k, v = (t[:, :, None].expand(-1, 2, 2, 5, 8).reshape(-1, 4, 5, 8) for t in (turn(m, k), v))
        score = turn(m, q) @ k.transpose(2, 3) / 8 ** 0.5 + m.mask
        x = x + m.o((torch.softmax(score, -1) @ v).transpose(1, 2).reshape(-1, 5, 32))
        h = norm(x, m.g2)
        return x + m.down(F.silu(m.gate(h)) * m.up(h))
    angle = (torch.arange(5)[:, None] / 10 ** (torch.arange(4) / 2)).repeat(1, 2)
    return Fn(forward, q=nn.Linear(32, 32, False), k=nn.Linear(32, 16, False), v=nn.Linear(32, 16, False),
              o=nn.Linear(32, 32, False), gate=nn.Linear(32, 48, False), up=nn.Linear(32, 48, False),
              down=nn.Linear(48, 32, False), g1=torch.rand(32) + 0.5, g2=torch.rand(32) + 0.5, cos=angle.cos(),
              sin=angle.sin(), mask=torch.full((5, 5), float("-inf")).triu(1)), (rows(5, 32),)


@case()
def class_token_encoder():
    def forward(m, x):
        h = torch.cat([m.token.expand(x.shape[0], -1, -1), x], 1) + m.place
        return m.head(m.block(h)[:, 0])
    return Fn(forward, token=torch.randn(1, 1, 16), place=torch.randn(1, 7, 16), block=Block(16, 4),
              head=nn.Linear(16, 3)), (rows(6, 16),)


@case()
def alibi_attention():
    def forward(m, x):
        q, k, v = m.qkv(x).view(-1, 6, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        return (torch.softmax(q @ k.transpose(-1, -2) * 0.35 + m.bias, -1) @ v).transpose(1, 2).flatten(2)
    far = (torch.arange(6)[None] - torch.arange(6)[:, None]).abs().float()
    return Fn(forward, qkv=nn.Linear(16, 48), bias=-far * torch.tensor([0.5, 0.25])[:, None, None]), (rows(6, 16),)


@case()
def linear_attention():
    def forward(m, x):
        q, k, v = F.elu(m.q(x)) + 1, F.elu(m.k(x)) + 1, m.v(x)
        return torch.einsum("bnd,bde->bne", q, torch.einsum("bnd,bne->bde", k, v)) / (q @ k.sum(1).unsqueeze(2))
    return Fn(forward, q=nn.Linear(8, 8), k=nn.Linear(8, 8), v=nn.Linear(8, 8)), (rows(6, 8),)


@case()
def attention_pooling():
    return Fn(lambda m, x: (torch.softmax(m.v(torch.tanh(m.w(x))), 1) * x).sum(1), w=nn.Linear(8, 6),
              v=nn.Linear(6, 1)), (rows(7, 8),)


@case()
def wavenet_residual():
    def forward(m, x):
        a, b = m.conv(F.pad(x, (4, 0))).chunk(2, 1)
        z = torch.tanh(a) * torch.sigmoid(b)
        return x + m.residual(z), m.skip(z)
    return Fn(forward, conv=nn.Conv1d(6, 12, 3, dilation=2), residual=nn.Conv1d(6, 6, 1), skip=nn.Conv1d(6, 4, 1)), \
        (rows(6, 16),)


@case()
def nbeats_stack():
    def forward(m, x):
        total = torch.zeros_like(x[:, :4])
        for block in m.blocks:
            theta = block(x)
            x, total = x - theta[:, :12], total + theta[:, 12:]
        return total
    return Fn(forward, blocks=nn.ModuleList(mlp(12, 24, 16) for _ in range(3))), (rows(12),)


@case()
def series_patches_normalised():
    def forward(m, x):
        mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5
        p = ((x - mean) / std).unfold(1, 8, 4)
        return m.head(m.embed(p).flatten(1)) * std + mean
    return Fn(forward, embed=nn.Linear(8, 6), head=nn.Linear(30, 4)), (rows(24),)


@case()
def sinusoidal_features():
    def forward(m, t):
        angle = t * m.frequency
        return m.net(torch.cat([angle.sin(), angle.cos()], -1))
    return Fn(forward, frequency=torch.exp(-torch.arange(6.0)), net=mlp(12, 16, 2)), (rows(1),)


# ---- recommenders and risk

@case()
def deep_and_cross():
    def forward(m, x):
        y = x
        for layer in m.cross:
            y = x * layer(y) + y
        return m.out(torch.cat([y, m.deep(x)], 1))
    return Fn(forward, cross=nn.ModuleList(nn.Linear(10, 10) for _ in range(2)), deep=mlp(10, 16, 8),
              out=nn.Linear(18, 1)), (rows(10),)


@case()
def compressed_interaction_network():
    def forward(m, c):
        x = m.table(c)
        z = torch.einsum("bhd,bmd->bhmd", x, x).reshape(-1, 16, 6)
        return m.out(F.relu(m.conv(z)).sum(2))
    return Fn(forward, table=nn.Embedding(40, 6), conv=nn.Conv1d(16, 5, 1), out=nn.Linear(5, 1)), (ids(40, 4),)


@case()
def field_self_attention():
    return Fn(lambda m, c: torch.sigmoid(m.out(F.relu(m.attention(m.table(c)) + m.skip(m.table(c))).flatten(1))),
              table=nn.Embedding(40, 8), attention=Attention(8, 2), skip=nn.Linear(8, 8), out=nn.Linear(32, 1)), (ids(40, 4),)


@case()
def next_item_transformer():
    def forward(m, items):
        h = m.block((m.table(items) * 4 + m.place(torch.arange(6))) * (items != 0).unsqueeze(-1))
        return torch.topk(h[:, -1] @ m.table.weight.t(), 5)
    return Fn(forward, table=nn.Embedding(50, 16), place=nn.Embedding(6, 16), block=Block(16, 2, causal=True)), (ids(50, 6),)


@case()
def next_item_gru():
    return Fn(lambda m, items: m.out(m.rnn(m.table(items))[0][:, -1]).topk(5)[1], table=nn.Embedding(50, 8),
              rnn=nn.GRU(8, 12, batch_first=True), out=nn.Linear(12, 50)), (ids(50, 6),)


@case()
def conversion_after_click():
    return Fn(lambda m, x: (torch.sigmoid(m.click(x)), torch.sigmoid(m.click(x)) * torch.sigmoid(m.buy(x))),
              click=mlp(9, 16, 1), buy=mlp(9, 16, 1)), (rows(9),)


@case()
def mixed_table_risk():
    """Numbers, categories and a missing-value mask: what a tabular model is fed."""
    def forward(m, x, c):
        known = (x > -998).float()
        x = (torch.where(x > -998, x, m.mean) - m.mean) / m.std
        parts = [t(c[:, i]) for i, t in enumerate(m.tables)]
        return torch.sigmoid(m.net(torch.cat([x, known, *parts], 1)))
    x = rows(6)
    x[1, 2] = x[3, 0] = -999.0
    return Fn(forward, mean=torch.randn(6), std=torch.rand(6) + 0.5,
              tables=nn.ModuleList(nn.Embedding(n, 3) for n in (5, 7)), net=mlp(18, 16, 1)), (x, ids(5, 2))


@case()
def quantile_heads():
    return Fn(lambda m, x: torch.cumsum(torch.cat([m.low(x), F.softplus(m.steps(x))], 1), 1),
              low=mlp(8, 16, 1), steps=mlp(8, 16, 4)), (rows(8),)


@case()
def mixture_density():
    def forward(m, x):
        pi, mu, sigma = m.net(x).chunk(3, 1)
        return torch.softmax(pi, 1), mu, F.softplus(sigma) + 1e-3
    return Fn(forward, net=mlp(5, 20, 12)), (rows(5),)


@case()
def nearest_prototype():
    return Fn(lambda m, x: (torch.cdist(m.net(x), m.centres).argmin(1), -((m.net(x)[:, None] - m.centres) ** 2).sum(2)),
              net=mlp(8, 16, 4), centres=torch.randn(6, 4)), (rows(8),)


@case()
def graph_convolution_fixed_graph():
    neighbours = torch.rand(7, 7).round() + torch.eye(7)
    return Fn(lambda m, x: m.b(m.a_hat @ F.relu(m.a(m.a_hat @ x))), a=nn.Linear(4, 8), b=nn.Linear(8, 2),
              a_hat=neighbours / neighbours.sum(1, keepdim=True)), (rows(7, 4),)


@case()
def variational_encoder_mean():
    return Fn(lambda m, x: (m.mean(m.trunk(x)), torch.exp(0.5 * m.logvar(m.trunk(x)).clamp(-5, 5))), trunk=mlp(20, 12, 8),
              mean=nn.Linear(8, 3), logvar=nn.Linear(8, 3)), (rows(20),)
