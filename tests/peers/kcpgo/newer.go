//go:build newer

// What kcp-go has since 5.6.60. The tag `newer` chooses this file, for a library that is newer than Debian's.

package main

import kcp "github.com/xtaci/kcp-go"

const hasNewer = true

func aesGCM(key []byte) (kcp.BlockCrypt, error) { return kcp.NewAESGCMCrypt(key) }

// longestOutOfBand is the longest payload of an out-of-band datagram.
func longestOutOfBand(session *kcp.UDPSession) int { return session.GetOOBMaxSize() }

func sendOutOfBand(session *kcp.UDPSession, payload []byte) error { return session.SendOOB(payload) }
