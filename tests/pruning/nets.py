"""Small networks with random weights, and a family of them in a file."""

import torch
from torch import nn

FAMILY = '''
import torch
from torch import nn
from prunesim.families import NetworkFamily
from tests.pruning.nets import Net, seeded


class Tiny(NetworkFamily):
    """A residual network."""

    name = "tiny-net"
    metric = "error"
    better = "lower"
    sample = "noise"

    def build(self, variant):
        return seeded(Net())

    def samples(self, count, seed):
        return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))

    def measure(self, run):
        data = self.samples(16, 99)
        return float((run(data) - seeded(Net())(data)).square().mean()), 16
'''


GRAPH = '''
import torch
from torch import nn
from prunesim.families import NetworkFamily


class Graph(nn.Module):
    """Messages along edges, after a node's kind was looked up."""

    def __init__(self):
        super().__init__()
        self.register_buffer("start", torch.tensor([0, 1, 2, 3, 4, 0, 1]))
        self.register_buffer("end", torch.tensor([1, 2, 3, 4, 0, 2, 3]))
        self.kinds = nn.Embedding(9, 6)
        self.message, self.out = nn.Linear(12, 6), nn.Linear(6, 2)

    def forward(self, kinds):
        nodes = self.kinds(kinds.long())
        ends = torch.cat([nodes.index_select(1, self.start), nodes[:, self.end]], dim=2)
        summed = torch.zeros_like(nodes).index_add(1, self.end, torch.relu(self.message(ends)))
        return self.out(summed + nodes)


class Small(NetworkFamily):
    """Of a fixed graph."""

    name = "small-graph"

    def build(self, variant):
        torch.manual_seed(0)
        return Graph()

    def samples(self, count, seed):
        return torch.randint(9, (count, 5), generator=torch.Generator().manual_seed(seed)).float()

    def measure(self, run):
        return float(run(self.samples(4, 9)).square().mean()), 4
'''


UP = '''
import torch
from torch import nn
from prunesim.families import NetworkFamily


class Up(NetworkFamily):
    """A convolution and a transposed one."""

    name = "up"

    def build(self, variant):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, stride=2))

    def samples(self, count, seed):
        return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
'''


class Net(nn.Module):
    """A stem, a residual block, a grouped and a depth-wise convolution, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(12)
        self.second = nn.Conv2d(12, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 16, 3, stride=2, groups=2)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16, padding="same")
        self.point = nn.Conv2d(16, 10, 1)
        self.head = nn.Linear(10 * 25, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states = torch.relu(self.norm(self.stem(images)))
        states = states + self.second(torch.relu(self.first_norm(self.first(states))))
        states = torch.relu(self.depthwise(self.grouped(states)))
        return self.head(torch.relu(self.point(states)).flatten(1))


class Sounds(nn.Module):
    """One-dimensional convolutions and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.hear = nn.Conv1d(1, 6, 5, stride=2, padding=2)
        self.remember = nn.GRU(6, 7, batch_first=True)
        self.say = nn.Linear(7, 2)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        states = torch.relu(self.hear(sound[:, None])).transpose(1, 2)
        return self.say(self.remember(states)[0])


class Woven(nn.Module):
    """Channels that are added to others (a residual with a convolution of its own), or multiplied with them, and an
    attention that multiplies its matrices itself."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.out = nn.Conv2d(8, 4, 1)
        self.look = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states = torch.relu(self.left(images) + self.right(images))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(states.mean((2, 3))))))
        states = self.out(states * gate[:, :, None, None]).flatten(2).transpose(1, 2)
        return self.head(self.look(states, states, states)[0])


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """With every parameter and statistic drawn anew."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]:
            drawn = torch.rand(tensor.shape, generator=draw)
            tensor.copy_(drawn - 0.4 if tensor.ndim > 1 else drawn + 0.5)
    return module.eval()
