// A sample picture of the page: a landscape of cut paper, layer upon layer.
//
//   povray +Ipaper_landscape.pov +Opaper_landscape.png +W1280 +H853 +A0.2 +R3 -D
//
// Drawn from scratch; no textures or meshes from elsewhere.
#version 3.7;

global_settings { assumed_gamma 1.0 }

#declare Dice = seed(7);

camera { location <0, 0, -20> right x * image_width / image_height look_at 0 angle 34 }
light_source { <-9, 13, -16> rgb <1.0, 0.96, 0.88> * 0.92 area_light <2.6, 0, 0>, <0, 2.6, 0>, 9, 9 adaptive 1 jitter }
light_source { <10, 4, -22> rgb <0.82, 0.9, 1.0> * 0.2 shadowless }

#macro Paper(Tone)
  texture {
    pigment { bozo turbulence 0.4 scale 0.35 color_map { [0 rgb Tone * Tone * 0.95] [1 rgb Tone * (0.3 + 0.7 * Tone) * 1.05] } }
    normal { granite 0.035 scale 0.35 }
    finish { diffuse 0.9 ambient 0.05 specular 0.02 }
  }
#end

// A sheet whose upper edge follows a ridge: Height + Swing * (three waves), from left to right.
#macro Ridge(Depth, Height, Swing, Phase, Rough, Tone)
  prism {
    linear_sweep linear_spline 0, 0.05, 164
    #for (I, 0, 160)
      #local X = -8 + 16 * I / 160;
      <X, Height + Swing * (0.6 * sin(X * 0.62 + Phase) + 0.3 * sin(X * 1.37 + Phase * 2.1) + Rough * abs(sin(X * 2.3 + Phase * 0.7)))>,
    #end
    <8, -8>, <-8, -8>, <-8, Height + Swing * (0.6 * sin(-8 * 0.62 + Phase) + 0.3 * sin(-8 * 1.37 + Phase * 2.1) + Rough * abs(sin(-8 * 2.3 + Phase * 0.7)))>
    rotate x * -90
    translate z * Depth
    Paper(Tone)
  }
#end

box { <-14, -10, 2.0>, <14, 10, 2.1> Paper(<0.93, 0.83, 0.68>) }
cylinder { <0, 0, 0>, <0, 0, 0.06>, 1.42 translate <2.35, 1.75, 1.45> Paper(<0.86, 0.20, 0.12>) }

// Bands of mist, pills of pale paper.
#macro Mist(X, Y, Z, Length, Radius)
  union {
    box { <-Length, -Radius, 0>, <Length, Radius, 0.04> }
    cylinder { <-Length, 0, 0>, <-Length, 0, 0.04>, Radius }
    cylinder { <Length, 0, 0>, <Length, 0, 0.04>, Radius }
    translate <X, Y, Z>
    Paper(<0.96, 0.92, 0.84>)
  }
#end
Mist(3.6, 1.02, 1.05, 1.5, 0.17)
Mist(-3.3, 2.75, 1.2, 1.25, 0.2)
Mist(-2.1, 2.33, 1.12, 1.1, 0.16)

// The mountain, with a cap of snow laid upon it.
prism {
  linear_sweep linear_spline 0, 0.05, 9
  <-5.9, -2.2>, <-3.3, 0.75>, <-2.35, 2.0>, <-1.95, 2.16>, <-1.45, 2.1>, <-0.95, 1.72>, <0.7, 0.1>, <3.6, -2.2>, <-5.9, -2.2>
  rotate x * -90 translate z * 0.95 Paper(<0.30, 0.42, 0.56>)
}
prism {
  linear_sweep linear_spline 0, 0.05, 12
  <-2.95, 1.22>, <-2.35, 2.0>, <-1.95, 2.16>, <-1.45, 2.1>, <-0.95, 1.72>, <-0.42, 1.2>, <-0.75, 1.28>, <-1.15, 0.98>,
  <-1.6, 1.38>, <-2.05, 0.92>, <-2.5, 1.36>, <-2.95, 1.22>
  rotate x * -90 translate z * 0.8 Paper(<0.97, 0.96, 0.93>)
}

Ridge(0.45, -0.75, 0.42, 0.6, 0.5, <0.36, 0.56, 0.55>)
Ridge(-0.05, -1.45, 0.36, 2.9, 0.35, <0.17, 0.40, 0.40>)

// Water in three strips, and a boat between them.
#macro Waves(Depth, Height, Phase, Tone)
  prism {
    linear_sweep linear_spline 0, 0.05, 324
    #for (I, 0, 320)
      #local X = -8 + 16 * I / 320;
      <X, Height + 0.10 * abs(sin(X * 2.2 + Phase))>,
    #end
    <8, -8>, <-8, -8>, <-8, Height + 0.10 * abs(sin(-8 * 2.2 + Phase))>
    rotate x * -90 translate z * Depth Paper(Tone)
  }
#end
Waves(-0.6, -2.02, 0.3, <0.52, 0.70, 0.76>)
union {
  prism {
    linear_sweep quadratic_spline 0, 0.05, 9
    <-1.35, 0.30>, <-1.1, 0.26>, <0, 0.02>, <1.1, 0.26>, <1.32, 0.36>, <0.95, -0.34>, <-0.85, -0.34>, <-1.1, 0.26>, <-1.35, 0.30>
    rotate x * -90 Paper(<0.38, 0.20, 0.12>)
  }
  box { <-0.04, 0, 0>, <0.04, 1.9, 0.04> translate <-0.05, 0, 0.03> Paper(<0.30, 0.16, 0.09>) }
  prism {
    linear_sweep linear_spline 0, 0.04, 6
    <0.06, 0.35>, <0.06, 1.85>, <0.62, 1.3>, <0.98, 0.72>, <1.05, 0.42>, <0.06, 0.35>
    rotate x * -90 Paper(<0.97, 0.93, 0.84>)
  }
  prism {
    linear_sweep linear_spline 0, 0.04, 5
    <-0.14, 0.40>, <-0.14, 1.6>, <-0.5, 0.95>, <-0.72, 0.42>, <-0.14, 0.40>
    rotate x * -90 Paper(<0.91, 0.62, 0.20>)
  }
  scale 0.86 rotate z * 2 translate <1.75, -1.98, -0.85>
}
Waves(-1.1, -2.42, 1.6, <0.28, 0.52, 0.64>)
Waves(-1.6, -2.92, 0.9, <0.12, 0.33, 0.47>)

// Two pines on the near bank, cut of one dark sheet each.
#macro Pine(X, Y, Z, Size, Tone)
  union {
    box { <-0.07, -1, 0>, <0.07, 0.4, 0.05> Paper(<0.27, 0.16, 0.10>) }
    #for (K, 0, 3)
      #local W = 0.95 - K * 0.19; #local B = K * 0.52;
      prism {
        linear_sweep linear_spline 0, 0.05, 4
        <-W, B>, <0, B + 1.0>, <W, B>, <-W, B>
        rotate x * -90 translate z * (-0.03 * K) Paper(Tone * (0.9 + 0.1 * K))
      }
    #end
    scale Size translate <X, Y, Z>
  }
#end
prism {
  linear_sweep cubic_spline 0, 0.05, 9
  <-9.5, -3.2>, <-8, -1.9>, <-5.4, -1.75>, <-3.6, -2.25>, <-2.2, -3.0>, <-1.2, -3.9>, <-8, -5>, <-8, -1.9>, <-5.4, -1.75>
  rotate x * -90 translate z * -1.9 Paper(<0.36, 0.27, 0.16>)
}
Pine(-4.55, -1.55, -2.0, 1.22, <0.10, 0.28, 0.20>)
Pine(-3.1, -2.05, -2.15, 0.86, <0.16, 0.36, 0.24>)

// Three cranes: two triangles of paper, bent a little.
#macro Crane(X, Y, Size, Turn)
  union {
    prism { linear_sweep linear_spline 0, 0.03, 5 <0, 0>, <-0.95, 0.5>, <-0.5, 0.22>, <-0.12, -0.1>, <0, 0> rotate x * -90 }
    prism { linear_sweep linear_spline 0, 0.03, 5 <0, 0>, <0.95, 0.5>, <0.5, 0.22>, <0.12, -0.1>, <0, 0> rotate x * -90 }
    prism { linear_sweep linear_spline 0, 0.03, 4 <-0.13, -0.02>, <0.13, -0.02>, <0, -0.42>, <-0.13, -0.02> rotate x * -90 }
    Paper(<0.99, 0.98, 0.96>)
    scale Size rotate z * Turn translate <X, Y, 0.4>
  }
#end
Crane(0.05, 2.35, 0.85, -8)
Crane(-0.35, 3.1, 0.6, 6)
Crane(4.6, 2.6, 0.6, 14)
