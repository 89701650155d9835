"""kcp-bbr beside the kernel's BBR on emulated paths of the kind that people have: `make odd-paths`."""
