package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	halyard "halyard.example/journey/gen/halyard/evaluation/v1"
)

// What the server holds, as a stream tells it: it changes at Commit and at no other time.
type mirror struct {
	items       map[id]*halyard.Put
	revision    uint64
	resumeToken []byte
}

type id struct {
	kind string
	key  string
}

func newMirror() *mirror {
	return &mirror{items: map[id]*halyard.Put{}}
}

// Reads one step, applies it, and returns its Begin.
func (m *mirror) nextCommit(stream halyard.WatchService_WatchClient) (*halyard.Begin, error) {
	var begin *halyard.Begin
	var held map[id]*halyard.Put
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		switch message := response.GetMessage().(type) {
		case *halyard.WatchResponse_Begin:
			begin, held = message.Begin, map[id]*halyard.Put{}
			if begin.GetIntent() != halyard.Intent_INTENT_SNAPSHOT {
				for id, put := range m.items {
					held[id] = put
				}
			}
		case *halyard.WatchResponse_Item:
			if put := message.Item.GetPut(); put != nil {
				held[id{put.GetKind(), put.GetKey()}] = put
			} else {
				gone := message.Item.GetDelete()
				delete(held, id{gone.GetKind(), gone.GetKey()})
			}
		case *halyard.WatchResponse_Commit:
			commit := message.Commit
			m.items, m.revision, m.resumeToken = held, commit.GetRevision(), commit.GetResumeToken()
			hash := stateHash(held)
			return begin, expect("the state hash", hash[:], commit.GetStateHash())
		case *halyard.WatchResponse_Goodbye:
			return nil, fmt.Errorf("the stream said goodbye though nobody stopped the server")
		}
	}
}

func (m *mirror) isEnabled(flag string) bool {
	put := m.items[id{"flag_configuration", flag}]
	return put.GetFlagConfiguration().GetEnabled()
}

// The XOR over all items of SHA-256(kind, key, form hash), each preceded by its length as a big-endian 64-bit number.
func stateHash(items map[id]*halyard.Put) (total [sha256.Size]byte) {
	for id, put := range items {
		var text []byte
		for _, field := range [][]byte{[]byte(id.kind), []byte(id.key), put.GetFormHash()} {
			text = binary.BigEndian.AppendUint64(text, uint64(len(field)))
			text = append(text, field...)
		}
		for n, b := range sha256.Sum256(text) {
			total[n] ^= b
		}
	}
	return total
}
