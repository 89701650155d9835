//go:build !newer

// Stand-ins for what Debian's kcp-go, of 2020, does not have.

package main

import (
	"errors"

	kcp "github.com/xtaci/kcp-go"
)

const hasNewer = false

var errOld = errors.New("this kcp-go has neither AES-GCM nor out-of-band datagrams")

func aesGCM([]byte) (kcp.BlockCrypt, error) { return nil, errOld }

func longestOutOfBand(*kcp.UDPSession) int { return 0 }

func sendOutOfBand(*kcp.UDPSession, []byte) error { return errOld }
