import Testing
import Segmentation

@Test func moduleLoads() {}
