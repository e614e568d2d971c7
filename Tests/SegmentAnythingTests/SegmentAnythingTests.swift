import Testing
import SegmentAnything

@Test func moduleLoads() {}
