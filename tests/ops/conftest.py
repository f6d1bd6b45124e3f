import torch

# Tests run in several processes; tensors this small gain nothing from threads, which would fight.
torch.set_num_threads(1)
