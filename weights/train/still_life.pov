// The sample picture of the project: a table with a mug, fruit, books and a vase by a window.
//
//   povray +Istill_life.pov +Osample.png +W1024 +H768 +A0.3 +R2 -D
//
// Drawn from scratch; no textures or meshes from elsewhere.
#version 3.7;

global_settings {
  assumed_gamma 1.0
  radiosity {
    pretrace_start 0.08 pretrace_end 0.01
    count 120 nearest_count 8 error_bound 0.6 recursion_limit 2 low_error_factor 0.6
    gray_threshold 0 minimum_reuse 0.015 brightness 1.0
  }
}

#declare Dice = seed(11);

camera {
  location <0.5, 5.2, -12.2>
  right x * image_width / image_height
  look_at <0.42, 1.45, 0>
  angle 43
}

// The window: a wide soft lamp from the left, and a faint cool one from the right.
light_source {
  <-13, 11, -7> rgb <1.0, 0.93, 0.82> * 1.25
  area_light <5, 0, 3>, <0, 6, 0>, 7, 7 adaptive 1 jitter
}
light_source {
  <14, 8, -10> rgb <0.75, 0.85, 1.0> * 0.16
  area_light <6, 0, 4>, <0, 6, 0>, 4, 4 adaptive 1 jitter
}
sky_sphere { pigment { rgb <0.55, 0.58, 0.62> * 0.5 } }

// Room ------------------------------------------------------------------------------------------------------------

plane {
  -z, -7.5
  pigment { bozo scale 3 color_map { [0 rgb <0.52, 0.56, 0.52>] [1 rgb <0.58, 0.61, 0.56>] } }
  normal { granite 0.06 scale 0.6 }
  finish { diffuse 0.75 specular 0.02 }
}

#for (I, -7, 7)
  #local Tone = 0.82 + 0.3 * rand(Dice);
  #local Shift = <rand(Dice) * 40, rand(Dice) * 3, rand(Dice) * 40>;
  superellipsoid {
    <0.02, 0.02>
    scale <13, 0.2, 0.695>
    translate <0, -0.2, I * 1.4 + 0.3>
    texture {
      pigment {
        wood turbulence 0.05 octaves 4 scale <0.16, 0.16, 9> rotate <1.5, 90, 1> translate Shift
        color_map {
          [0.0 rgb <0.34, 0.19, 0.095> * Tone]
          [0.5 rgb <0.42, 0.245, 0.125> * Tone]
          [0.85 rgb <0.30, 0.165, 0.08> * Tone]
          [1.0 rgb <0.37, 0.21, 0.105> * Tone]
        }
      }
      normal { wrinkles 0.06 scale <3, 0.1, 0.08> }
      finish { diffuse 0.8 specular 0.16 roughness 0.04 reflection { 0.0, 0.06 } }
    }
  }
#end

// A linen cloth under the mug -------------------------------------------------------------------------------------

#declare Linen = texture {
  pigment {
    gradient x scale 0.62
    color_map {
      [0.00 rgb <0.86, 0.83, 0.76>] [0.70 rgb <0.86, 0.83, 0.76>] [0.70 rgb <0.33, 0.42, 0.52>]
      [0.78 rgb <0.33, 0.42, 0.52>] [0.78 rgb <0.86, 0.83, 0.76>] [0.84 rgb <0.86, 0.83, 0.76>]
      [0.84 rgb <0.33, 0.42, 0.52>] [0.87 rgb <0.33, 0.42, 0.52>] [0.87 rgb <0.86, 0.83, 0.76>]
    }
  }
  normal { quilted 0.4 control0 1 control1 1 scale 0.035 }
  finish { diffuse 0.8 }
}
#declare Ripple = function(x, z) { 0.035 * sin(x * 2.1 + 0.6 * sin(z * 1.3)) * sin(z * 1.7 + 0.4) + 0.05 }
union {
  #local N = 34;
  #for (I, 0, N - 1)
    #for (J, 0, N - 1)
      #local U = -2.1 + 4.2 * I / N; #local V = -1.5 + 3.0 * J / N;
      #local S = 4.2 / N; #local T = 3.0 / N;
      triangle { <U, Ripple(U, V), V>, <U + S, Ripple(U + S, V), V>, <U + S, Ripple(U + S, V + T), V + T> }
      triangle { <U, Ripple(U, V), V>, <U, Ripple(U, V + T), V + T>, <U + S, Ripple(U + S, V + T), V + T> }
    #end
  #end
  texture { Linen }
  rotate y * -17
  translate <1.35, 0.0, -1.15>
}

// Mug -------------------------------------------------------------------------------------------------------------

#declare Glaze = finish { diffuse 0.78 specular 0.5 roughness 0.008 reflection { 0.01, 0.12 fresnel off } }
#declare Mug = union {
  difference {
    lathe {
      cubic_spline 9,
      <0, 0>, <0.72, 0.0>, <0.86, 0.06>, <0.95, 0.4>, <0.98, 1.2>, <0.97, 1.75>, <0.93, 1.80>, <0.89, 1.75>, <0.88, 1.6>
    }
    cylinder { <0, 0.2, 0>, <0, 1.9, 0>, 0.885 }
  }
  difference {
    cylinder { <0, 0.02, 0>, <0, 1.78, 0>, 0.93 }
    cylinder { <0, 0.16, 0>, <0, 1.9, 0>, 0.87 }
  }
  torus { 0.9, 0.042 translate y * 1.78 }
  difference {
    torus { 0.48, 0.115 rotate x * 90 scale <0.95, 1.1, 1.0> translate <1.02, 0.95, 0> }
    cylinder { <0, 0.1, 0>, <0, 1.7, 0>, 0.92 }
  }
  pigment {
    gradient y scale 2
    color_map {
      [0.00 rgb <0.16, 0.30, 0.42>] [0.20 rgb <0.17, 0.32, 0.44>] [0.23 rgb <0.88, 0.86, 0.80>] [1 rgb <0.90, 0.88, 0.82>]
    }
  }
  normal { bumps 0.04 scale 0.3 }
  finish { Glaze }
}
union {
  object { Mug }
  cylinder {
    <0, 1.4, 0>, <0, 1.5, 0>, 0.88
    pigment {
      cylindrical scale 0.9
      color_map { [0 rgb <0.20, 0.10, 0.045>] [0.12 rgb <0.11, 0.05, 0.02>] [1 rgb <0.07, 0.03, 0.012>] }
    }
    finish { diffuse 0.7 specular 0.4 roughness 0.01 reflection 0.05 }
  }
  rotate y * 32
  translate <1.5, 0.06, -0.9>
}

// Fruit -----------------------------------------------------------------------------------------------------------

#macro Apple(Red, Green)
  union {
    lathe {
      cubic_spline 13,
      <0.25, 1.75>, <0.0, 1.50>, <0.14, 1.58>, <0.40, 1.72>, <0.70, 1.66>, <0.92, 1.38>, <0.98, 1.0>, <0.90, 0.58>,
      <0.68, 0.20>, <0.42, 0.02>, <0.2, 0.06>, <0.0, 0.16>, <-0.2, 0.06>
      pigment {
        bozo turbulence 0.6 scale <0.32, 1.6, 0.32>
        color_map { [0.0 Red * 0.8] [0.45 Red] [0.72 (Red + Green) * 0.5] [1.0 Green] }
      }
      normal { bumps 0.03 scale 0.12 }
      finish { diffuse 0.72 specular 0.35 roughness 0.015 reflection 0.025 }
    }
    sphere_sweep {
      b_spline 5
      <0, 1.3, 0>, 0.035 <0, 1.5, 0>, 0.035 <0.03, 1.72, 0>, 0.04 <0.12, 1.98, 0.02>, 0.055 <0.2, 2.2, 0.02>, 0.06
      pigment { rgb <0.16, 0.095, 0.045> }
    }
  }
#end
object { Apple(rgb <0.52, 0.045, 0.035>, rgb <0.62, 0.42, 0.10>) scale 0.78 rotate <0, 40, -7> translate <-1.15, 0, -2.35> }
object { Apple(rgb <0.40, 0.50, 0.08>, rgb <0.55, 0.60, 0.16>) scale 0.74 rotate <8, 150, 14> translate <-2.75, 0, -1.45> }

union {
  sphere {
    0, 0.72 scale <1, 0.95, 1>
    pigment { bozo scale 0.3 color_map { [0 rgb <0.86, 0.33, 0.03>] [1 rgb <0.92, 0.41, 0.05>] } }
    normal { bumps 0.35 scale 0.035 }
    finish { diffuse 0.75 specular 0.3 roughness 0.03 }
  }
  cylinder { <0, 0.66, 0>, <0, 0.7, 0>, 0.055 pigment { rgb <0.25, 0.28, 0.08> } }
  rotate <-28, 0, 24>
  translate <0.1, 0.685, -3.05>
}

// A lemon, lying.
lathe {
  cubic_spline 9,
  <0.12, -1.0>, <0, -0.86>, <0.12, -0.76>, <0.40, -0.52>, <0.52, 0.0>, <0.40, 0.52>, <0.14, 0.74>, <0, 0.9>, <-0.1, 1.0>
  pigment { bozo scale 0.4 color_map { [0 rgb <0.90, 0.72, 0.05>] [1 rgb <0.86, 0.66, 0.06>] } }
  normal { bumps 0.25 scale 0.06 }
  finish { diffuse 0.75 specular 0.25 roughness 0.03 }
  rotate z * 90 rotate y * -35
  translate <3.95, 0.5, -1.9>
}

// Books -----------------------------------------------------------------------------------------------------------

#macro Book(W, H, D, Cover, Band)
  union {
    box { <-W + 0.06, 0.06, -D + 0.06>, <W - 0.07, H - 0.06, D - 0.06>
      pigment { gradient y scale 0.035 color_map { [0 rgb <0.80, 0.74, 0.62>] [0.6 rgb <0.86, 0.81, 0.70>] [1 rgb <0.70, 0.63, 0.51>] } }
      finish { diffuse 0.8 }
    }
    union {
      superellipsoid { <0.04, 0.1> scale <W, 0.035, D> translate y * 0.035 }
      superellipsoid { <0.04, 0.1> scale <W, 0.035, D> translate y * (H - 0.035) }
      // The spine faces the viewer.
      difference {
        cylinder { <-W, H / 2, 0>, <W, H / 2, 0>, H / 2 * 1.02 scale <1, 1, 0.4> translate z * (-D + 0.06) }
        box { <-W - 1, -1, -D + 0.07>, <W + 1, H + 1, D + 1> }
      }
      texture {
        pigment { Cover }
        normal { granite 0.12 scale 0.05 }
        finish { diffuse 0.75 specular 0.12 roughness 0.05 }
      }
    }
    #for (K, 0, 1)
      difference {
        cylinder { <-0.03, H / 2, 0>, <0.03, H / 2, 0>, H / 2 * 1.035 scale <1, 1, 0.4> translate <(K * 2 - 1) * W * 0.72, 0, -D + 0.06> }
        box { <-W - 1, -1, -D + 0.07>, <W + 1, H + 1, D + 1> }
        pigment { Band } finish { diffuse 0.6 specular 0.7 roughness 0.02 }
      }
    #end
    difference {
      cylinder { <-W * 0.38, H / 2, 0>, <W * 0.38, H / 2, 0>, H / 2 * 1.03 scale <1, 1, 0.4> translate z * (-D + 0.06) }
      box { <-W - 1, -1, -D + 0.07>, <W + 1, H + 1, D + 1> }
      box { <-W - 1, H * 0.72, -D - 1>, <W + 1, H + 1, D + 1> }
      box { <-W - 1, -1, -D - 1>, <W + 1, H * 0.28, D + 1> }
      pigment { Band } finish { diffuse 0.6 specular 0.7 roughness 0.02 }
    }
  }
#end
object { Book(1.75, 0.52, 1.25, rgb <0.07, 0.16, 0.17>, rgb <0.62, 0.46, 0.18>) rotate y * 9 translate <-2.15, 0, 1.5> }
object { Book(1.55, 0.40, 1.12, rgb <0.42, 0.08, 0.06>, rgb <0.70, 0.56, 0.28>) rotate y * -6 translate <-2.25, 0.52, 1.5> }
object { Book(1.40, 0.32, 1.00, rgb <0.55, 0.47, 0.30>, rgb <0.18, 0.15, 0.12>) rotate y * 15 translate <-2.1, 0.92, 1.55> }

// A pear on the books.
union {
  lathe {
    cubic_spline 12,
    <0.2, 2.3>, <0.0, 2.22>, <0.16, 2.16>, <0.29, 1.88>, <0.38, 1.5>, <0.62, 1.1>, <0.80, 0.68>, <0.76, 0.3>, <0.5, 0.05>,
    <0.24, 0.02>, <0.0, 0.1>, <-0.2, 0.02>
    pigment {
      bozo turbulence 0.5 scale <0.5, 0.8, 0.5>
      color_map { [0 rgb <0.60, 0.56, 0.14>] [0.6 rgb <0.66, 0.58, 0.17>] [0.85 rgb <0.62, 0.40, 0.12>] [1 rgb <0.55, 0.27, 0.10>] }
    }
    normal { bumps 0.04 scale 0.08 }
    finish { diffuse 0.75 specular 0.2 roughness 0.03 }
  }
  sphere_sweep {
    b_spline 5
    <0, 1.9, 0>, 0.035 <0, 2.15, 0>, 0.035 <0.04, 2.34, 0>, 0.035 <0.14, 2.55, 0>, 0.045 <0.2, 2.7, 0>, 0.05
    pigment { rgb <0.17, 0.10, 0.05> }
  }
  scale 0.66
  rotate <6, 60, -5>
  translate <-1.75, 1.235, 1.35>
}

// Vase with twigs -------------------------------------------------------------------------------------------------

lathe {
  cubic_spline 12,
  <0.3, -0.1>, <0.62, 0.0>, <0.95, 0.5>, <1.08, 1.1>, <0.92, 1.75>, <0.55, 2.25>, <0.40, 2.55>, <0.46, 2.85>, <0.54, 2.95>,
  <0.46, 2.92>, <0.36, 2.6>, <0.3, 2.4>
  pigment {
    bozo turbulence 0.7 scale <0.6, 0.25, 0.6>
    color_map { [0 rgb <0.64, 0.58, 0.50>] [0.7 rgb <0.70, 0.65, 0.57>] [1 rgb <0.48, 0.40, 0.33>] }
  }
  normal { bumps 0.08 scale 0.12 }
  finish { diffuse 0.75 specular 0.12 roughness 0.06 }
  scale 1.02
  translate <3.35, 0, 1.9>
}

#macro Leaf(Size, Tone)
  sphere {
    0, 1 scale <0.5, 0.035, 0.42> translate x * 0.5 scale Size
    pigment { rgb <0.26, 0.36, 0.25> * Tone }
    finish { diffuse 0.7 specular 0.15 roughness 0.05 }
  }
#end
#for (I, 0, 5)
  #local Heading = 360 * (I + 0.35 * rand(Dice)) / 6;
  #local Lean = 0.35 + 0.35 * rand(Dice);
  #local Reach = 1.9 + 0.9 * rand(Dice);
  #for (J, 0, 21)
    #local A = J / 21;
    #local P = vrotate(<Lean * Reach * A * A * 0.9, Reach * A * (1 - 0.18 * A), 0>, y * Heading) + <3.35, 2.3, 1.9>;
    #local B = (J + 1) / 21;
    #local Q = vrotate(<Lean * Reach * B * B * 0.9, Reach * B * (1 - 0.18 * B), 0>, y * Heading) + <3.35, 2.3, 1.9>;
    cone { P, 0.035 * (1.15 - A), Q, 0.035 * (1.15 - B) pigment { rgb <0.22, 0.17, 0.10> } }
    #if (J > 5)
      object {
        Leaf(0.40 + 0.16 * rand(Dice), 0.75 + 0.6 * rand(Dice))
        rotate <30 * (rand(Dice) - 0.5), 0, 15 + 45 * rand(Dice)>
        rotate y * (J * 137 + 40 * rand(Dice))
        translate P
      }
    #end
  #end
#end

// A spoon on the cloth.
union {
  difference {
    sphere { 0, 1 scale <0.42, 0.14, 0.29> }
    sphere { 0, 1 scale <0.40, 0.13, 0.27> translate y * 0.045 }
    box { <-1, 0.02, -1>, <1, 1, 1> }
  }
  sphere_sweep {
    b_spline 6
    <-0.2, 0.0, 0>, 0.05 <0.36, 0.0, 0>, 0.06 <0.7, 0.1, 0>, 0.05 <1.4, 0.12, 0>, 0.06 <2.1, 0.06, 0>, 0.085 <2.4, 0.02, 0>, 0.08
    scale <1, 0.55, 1>
  }
  pigment { rgb <0.72, 0.70, 0.66> }
  finish { diffuse 0.35 specular 0.8 roughness 0.01 metallic reflection { 0.45 metallic } }
  rotate y * 24
  translate <1.35, 0.2, -2.55>
}
