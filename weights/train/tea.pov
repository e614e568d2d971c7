// A sample picture of the page: a teapot, bowls, persimmons and a plate of sweets on a mat.
//
//   povray +Itea.pov +Otea.png +W1280 +H853 +A0.2 +R3 -D
//
// Drawn from scratch; no textures or meshes from elsewhere.
#version 3.7;

global_settings {
  assumed_gamma 1.0
  radiosity { pretrace_start 0.08 pretrace_end 0.01 count 90 nearest_count 8 error_bound 0.7 recursion_limit 2 brightness 0.9 }
}
#declare Dice = seed(23);

camera { location <0.2, 7.4, -11.2> right x * image_width / image_height look_at <0.15, 0.55, 0.25> angle 40 }
light_source { <-10, 13, -4> rgb <1.0, 0.95, 0.86> * 1.15 area_light <4, 0, 2>, <0, 4, 0>, 7, 7 adaptive 1 jitter }
light_source { <12, 9, -10> rgb <0.78, 0.86, 1.0> * 0.2 area_light <5, 0, 3>, <0, 5, 0>, 4, 4 adaptive 1 jitter }
sky_sphere { pigment { rgb <0.62, 0.64, 0.66> * 0.5 } }

// A dark table and a mat of rush.
plane {
  y, -0.12
  pigment { wood turbulence 0.06 scale <0.3, 0.3, 8> rotate <1, 87, 0> color_map { [0 rgb <0.12, 0.075, 0.05>] [1 rgb <0.19, 0.12, 0.08>] } }
  finish { diffuse 0.8 specular 0.15 roughness 0.05 reflection 0.03 }
}
box {
  <-4.4, -0.1, -2.9>, <4.5, 0, 2.6>
  pigment { gradient z scale 0.11 color_map { [0 rgb <0.58, 0.55, 0.33>] [0.5 rgb <0.67, 0.64, 0.41>] [1 rgb <0.52, 0.49, 0.29>] } }
  normal { gradient z 0.5 scale 0.11 }
  finish { diffuse 0.8 }
  rotate y * -4
}

#declare Glaze = finish { diffuse 0.78 specular 0.45 roughness 0.012 reflection { 0.01, 0.1 fresnel off } }

// Iron teapot.
union {
  lathe {
    cubic_spline 11,
    <0.3, -0.1>, <0.75, 0.0>, <1.2, 0.3>, <1.42, 0.75>, <1.33, 1.15>, <0.95, 1.42>, <0.60, 1.50>, <0.56, 1.56>, <0.35, 1.64>, <0.0, 1.68>, <-0.2, 1.66>
  }
  sphere { <0, 1.78, 0>, 0.16 }
  sphere_sweep { cubic_spline 6 <-0.9, 0.3, 0>, 0.3 <-1.2, 0.6, 0>, 0.3 <-1.55, 0.85, 0>, 0.22 <-1.85, 1.22, 0>, 0.15 <-2.05, 1.42, 0>, 0.13 <-2.2, 1.6, 0>, 0.13 }
  sphere_sweep {
    cubic_spline 7 <0.8, 1.0, 0>, 0.09 <0.92, 1.3, 0>, 0.09 <0.85, 2.1, 0>, 0.09 <0, 2.62, 0>, 0.1 <-0.85, 2.1, 0>, 0.09 <-0.92, 1.3, 0>, 0.09 <-0.8, 1.0, 0>, 0.09
  }
  #for (K, 0, 23)
    #for (J, 0, 2)
      #local R = array[3] { 1.335, 1.425, 1.40 };
      sphere { 0, 0.06 translate <R[J], 0.52 + J * 0.22, 0> rotate y * (K * 15 + J * 7.5) }
    #end
  #end
  pigment { rgb <0.055, 0.10, 0.13> }
  normal { bumps 0.12 scale 0.05 }
  finish { diffuse 0.75 specular 0.35 roughness 0.05 reflection 0.02 }
  rotate y * 24
  translate <-1.75, 0, 0.75>
}

#macro Bowl(Outer, Rim, Tea)
  union {
    difference {
      lathe { cubic_spline 9, <0.2, -0.06>, <0.42, 0.0>, <0.46, 0.1>, <0.74, 0.32>, <0.88, 0.75>, <0.90, 1.02>, <0.86, 1.05>, <0.82, 1.0>, <0.7, 0.9> }
      cylinder { <0, 0.3, 0>, <0, 1.3, 0>, 0.80 }
    }
    torus { 0.86, 0.045 translate y * 1.02 pigment { Rim } finish { Glaze } }
    pigment { bozo turbulence 0.5 scale <0.7, 0.25, 0.7> color_map { [0 Outer] [0.7 Outer * 0.93] [1 Outer * 0.7] } }
    finish { Glaze }
  }
  cylinder { <0, 0.74, 0>, <0, 0.78, 0>, 0.80 pigment { Tea } finish { diffuse 0.8 specular 0.4 roughness 0.01 reflection 0.06 } }
#end
union { Bowl(rgb <0.80, 0.78, 0.72>, rgb <0.45, 0.30, 0.18>, rgb <0.32, 0.46, 0.10>) scale 1.02 translate <1.15, 0, -1.15> }
union { Bowl(rgb <0.20, 0.33, 0.50>, rgb <0.85, 0.84, 0.80>, rgb <0.36, 0.50, 0.13>) scale 0.92 translate <-0.75, 0, -2.15> }

// A plate with three sweets.
lathe {
  cubic_spline 8, <0, -0.2>, <0, 0.05>, <0.9, 0.05>, <1.38, 0.17>, <1.42, 0.22>, <1.36, 0.21>, <0.9, 0.11>, <0, 0.1>
  pigment { rgb <0.13, 0.12, 0.12> } finish { Glaze } translate <2.75, 0, 1.2>
}
#macro Sweet(X, Z, Tone)
  sphere {
    0, 0.43 scale <1, 0.86, 1>
    pigment { Tone } normal { bumps 0.04 scale 0.1 } finish { diffuse 0.85 specular 0.12 roughness 0.06 }
    translate <2.75 + X, 0.45, 1.2 + Z>
  }
#end
Sweet(-0.52, -0.22, rgb <0.90, 0.52, 0.56>)
Sweet(0.42, -0.36, rgb <0.92, 0.90, 0.84>)
Sweet(0.02, 0.46, rgb <0.46, 0.60, 0.24>)

// Persimmons.
#macro Persimmon(Size, Turn)
  union {
    lathe {
      cubic_spline 9, <0.3, 1.1>, <0.0, 1.08>, <0.35, 1.2>, <0.82, 1.0>, <0.95, 0.6>, <0.78, 0.2>, <0.4, 0.02>, <0.0, 0.06>, <-0.2, 0.1>
      pigment { bozo scale 0.5 color_map { [0 rgb <0.86, 0.30, 0.04>] [1 rgb <0.92, 0.40, 0.06>] } }
      finish { diffuse 0.75 specular 0.4 roughness 0.015 reflection 0.02 }
    }
    #for (K, 0, 3)
      sphere { 0, 1 scale <0.36, 0.03, 0.2> rotate z * -6 translate <0.3, 1.2, 0> rotate y * (K * 90 + 20) pigment { rgb <0.27, 0.33, 0.13> } finish { diffuse 0.8 } }
    #end
    cylinder { <0, 1.1, 0>, <0, 1.36, 0>, 0.07 pigment { rgb <0.22, 0.15, 0.08> } }
    scale Size rotate y * Turn
  }
#end
object { Persimmon(0.78, 0) translate <-3.35, 0, -1.35> }
object { Persimmon(0.70, 40) rotate z * 8 translate <-2.75, 0.02, -2.55> }

// Chopsticks and their rest.
#for (K, 0, 1)
  cone { <0, 0, 0>, 0.05, <3.6, 0, 0>, 0.085 pigment { rgb <0.52, 0.06, 0.05> } finish { diffuse 0.8 specular 0.4 roughness 0.02 } rotate y * (9 + K * 3) translate <0.95, 0.17 , -2.75 + K * 0.12> }
#end
superellipsoid { <0.4, 0.4> scale <0.12, 0.09, 0.42> pigment { rgb <0.88, 0.87, 0.82> } finish { Glaze } rotate y * 8 translate <1.5, 0.07, -2.78> }
