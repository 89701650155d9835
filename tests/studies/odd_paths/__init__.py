"""A study of kcp-bbr on drawn paths of the kinds that Wi-Fi, mobile networks, cable and satellites have."""
